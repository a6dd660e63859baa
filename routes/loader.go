package routes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"

	"cbproxy/internal/files"
	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// Loader reads a configuration. It may be used by several goroutines at once, as long as
// what it refers to isn't modified.
type Loader struct {
	// Path is the file as the operator named it; faults repeat it as it is.
	Path string
	// Builtin is a YAML document with a mapping of fallbacks by name, of the same shape as
	// under fallbacks: in the file. What the operator writes under such a name lies on top of it.
	Builtin []byte
	// Strategies returns, by the name of a strategy, a pointer to a new struct of its options
	// with their defaults. The struct's yaml, valid and enum tags count as those of
	// Config do. It may have a method Validate(report func(path, message string)), and its
	// fields may decode themselves by UnmarshalYAML.
	Strategies map[string]func() any
	// RedisURL says what is wrong with a redis.url, in the words of a fault and without a word
	// of what may be secret; nil accepts any.
	RedisURL func(url string) error
	// Environ has the form of os.Environ. It fills ${} and overrides the file.
	Environ []string
}

// Load reads and parses the file. The error is Faults, or says why the file can't be read.
func (l Loader) Load() (*Config, error) {
	content, err := l.Read()
	if err != nil {
		return nil, err
	}
	return l.Parse(content)
}

// Reload is Load for a file that has been read before. A named pipe, whose content was read then, is an error: opening it could
// wait forever.
func (l Loader) Reload() (*Config, error) {
	content, err := files.ReadRegular(l.Path, MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.Path, err)
	}
	return l.Parse(content)
}

// Read returns the file's content, up to one byte more than Parse accepts.
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

// builder makes one configuration.
type builder struct {
	Loader
	environ map[string]string
	builtin *yaml.Node
	root    *yaml.Node
	decoder strictyaml.Decoder
	faults  *strictyaml.Collector
	config  *Config
}

// build fills the configuration from the tree, in the order in which values depend on each other.
func (b *builder) build(t strictyaml.Tree) {
	b.root = t.Root
	b.decoder = strictyaml.Decoder{Faults: b.faults, Expanded: t.Expanded, Forms: textChecks}
	b.decoder.Struct(b.root, strictyaml.Place{}, reflect.ValueOf(b.config).Elem(), nil)
	b.fallbacks()
	b.routes()
	b.overrides()
	b.validate()
}

// at returns the place of a key of the file by its whole path.
func (b *builder) at(path string) strictyaml.Place {
	return strictyaml.Locate(b.root, strictyaml.Place{Line: 1, Column: 1}, path)
}

// section returns the mapping at a top-level key; nil, with a fault unless the key is missing, if there is none.
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
