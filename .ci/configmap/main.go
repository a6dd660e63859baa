// Command configmap prints one value of one ConfigMap among the manifests on
// its standard input.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"gopkg.in/yaml.v3"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: configmap NAME KEY < manifests.yaml")
		os.Exit(2)
	}
	value, err := find(os.Stdin, os.Args[1], os.Args[2])
	if err == nil {
		_, err = io.WriteString(os.Stdout, value)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "configmap:", err)
		os.Exit(1)
	}
}

func find(manifests io.Reader, name, key string) (string, error) {
	for d := yaml.NewDecoder(manifests); ; {
		var m struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]any
		}
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return "", fmt.Errorf("no ConfigMap %s with the key %s among the manifests", name, key)
		case err != nil:
			return "", fmt.Errorf("read the manifests: %w", err)
		}
		if value, ok := m.Data[key].(string); ok && m.Kind == "ConfigMap" && m.Metadata.Name == name {
			return value, nil
		}
	}
}
