// Package routes is what the operator wrote: the configuration's types, how a file becomes a
// Config (Loader) with every fault named by its line, how changes of the file are noticed
// (Watcher), and the Table that finds a route by a request's path.
//
// The way of a file: its bytes become one YAML document within limits; a tree without aliases,
// merges and ${}; values on top of their defaults, by the tags of the types; overrides from the
// environment; and at last the checks that concern several values. Each step adds what is
// wrong to one list and goes on.
package routes
