package routes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"

	"cbproxy/internal/files"
	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"gopkg.in/yaml.v3"
)

// MaxFileBytes is the largest configuration file that is accepted.
const MaxFileBytes = strictyaml.MaxFileBytes

// Fault is one error in a configuration with its position.
type Fault = strictyaml.Fault

// Faults are all errors in a configuration, in the order of the file. It is an error.
type Faults = strictyaml.Faults

// Loader loads a configuration. It is safe for concurrent use if its fields are not modified.
type Loader struct {
	// Path is the file. Faults contain it unchanged.
	Path string
	// Builtin is a YAML document with fallbacks by name, in the form of the fallbacks key. The file
	// overrides single keys of them.
	Builtin []byte
	// Strategies has a function for each strategy by name, which returns a pointer to a new struct of its
	// options with their defaults. The yaml, valid, enum and most tags have the same meaning as those of
	// Config. The struct may have a method Validate(report func(path, message string)), and its fields a
	// method UnmarshalYAML. Before Validate its method DropDefaults(given func(key string) bool) is
	// called, if it has one: it removes defaults, or values of a built-in fallback, that do not fit to
	// the values that the file gives.
	Strategies map[string]func() any
	// Algorithms has a function for each algorithm of breakers by name, which returns a pointer to a new struct of its options with
	// their defaults, as Strategies; nil if it has no options. They may also have a method ValidateMinRequests(minRequests int, report
	// func(path, message string)). If the map is nil, every name is accepted, and no options.
	Algorithms map[string]func() any
	// RedisURL returns an error, without credentials, if a redis.url is invalid. nil accepts every URL.
	RedisURL func(url string) error
	// Environ has the form of os.Environ. It resolves ${} references and overrides the file.
	Environ []string
}

// Load reads and parses the file. The error is a Faults, or that of reading the file.
func (l Loader) Load() (*Config, error) {
	content, err := l.Read()
	if err != nil {
		return nil, err
	}
	return l.Parse(content)
}

// Reload is Load for a file that has been read before. It returns an error for a named pipe, because
// opening it again could block forever.
func (l Loader) Reload() (*Config, error) {
	content, err := files.ReadRegular(l.Path, MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.Path, err)
	}
	return l.Parse(content)
}

// Read returns the content of the file, at most one byte more than Parse accepts.
func (l Loader) Read() ([]byte, error) {
	content, err := files.Read(l.Path, MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.Path, err)
	}
	return content, nil
}

// Parse returns the configuration in content, which is what the file holds. The error is
// Faults with everything that is wrong, unless Builtin itself is.
func (l Loader) Parse(content []byte) (*Config, error) {
	builtin, err := l.parseBuiltin()
	if err != nil {
		return nil, fmt.Errorf("built-in fallbacks: %w", err)
	}
	b := &builder{Loader: l, environ: environment(l.Environ), builtin: builtin, config: defaultConfig()}
	b.faults = &strictyaml.Collector{File: l.Path}
	sum := sha256.Sum256(content)
	b.config.file, b.config.listenPlaces = l.Path, map[string]strictyaml.Place{}
	b.config.Hash = hex.EncodeToString(sum[:8])
	if doc := strictyaml.Parse(content, b.faults); doc != nil {
		if t, ok := strictyaml.Flatten(doc, b.environ, b.faults); ok {
			b.build(t)
		}
	}
	if err := b.faults.Err(); err != nil {
		return nil, err
	}
	return b.config, nil
}

func (l Loader) parseBuiltin() (*yaml.Node, error) {
	if len(l.Builtin) == 0 {
		return &yaml.Node{Kind: yaml.MappingNode}, nil
	}
	faults := &strictyaml.Collector{File: "built-in"}
	doc := strictyaml.Parse(l.Builtin, faults)
	if doc == nil {
		return nil, faults.Err()
	}
	t, _ := strictyaml.Flatten(doc, nil, faults)
	return t.Root, faults.Err()
}

// builder builds one configuration.
type builder struct {
	Loader
	environ map[string]string
	builtin *yaml.Node
	root    *yaml.Node
	decoder strictyaml.Decoder
	faults  *strictyaml.Collector
	config  *Config

	listeners       []listener       // the listen addresses that are valid
	strategyServers []strategyServer // of the fallbacks
}

// build fills the configuration from the tree. Later steps depend on the values of earlier ones.
func (b *builder) build(t strictyaml.Tree) {
	b.root = t.Root
	b.decoder = strictyaml.Decoder{Faults: b.faults, Expanded: t.Expanded, Forms: textform.Checks}
	b.decoder.Other = b.decodeAlgorithms(&b.decoder)
	b.decoder.Struct(b.root, strictyaml.Place{}, reflect.ValueOf(b.config).Elem(), nil)
	b.fallbacks()
	b.routes()
	b.overrides()
	b.validate()
}

// at returns the place of a key by its complete path.
func (b *builder) at(path string) strictyaml.Place {
	return strictyaml.Locate(b.root, strictyaml.Place{Line: 1, Column: 1}, path)
}

// section returns the mapping at a top-level key. It returns nil if the key is missing, and adds a
// fault if the value is no mapping.
func (b *builder) section(name string) *yaml.Node {
	value, _ := strictyaml.Lookup(b.root, name)
	if value == nil || value.Kind == 0 {
		return nil
	}
	if value.Kind != yaml.MappingNode {
		b.faults.Add(b.at(name), "%s, got %s", strictyaml.WantMapping, strictyaml.Show(value))
		return nil
	}
	return value
}
