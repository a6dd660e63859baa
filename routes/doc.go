// Package routes defines the configuration: its types and defaults, Loader, which turns a file into a
// Config or reports every fault with its line, the JSON Schema, Diff, and Table, which finds the route
// of a request's path.
//
// A file is loaded in steps, each of which adds its faults to one list and continues: the content is
// parsed and flattened (package strictyaml), values are decoded on top of their defaults according to
// the tags of the types, environment variables override them, and the result is validated.
package routes
