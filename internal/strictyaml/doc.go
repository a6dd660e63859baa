// Package strictyaml decodes YAML documents into structs without guessing. It refuses unknown and
// duplicate keys, tags, ambiguous numbers such as 010 and 1e3, and second documents, and it reports
// every fault of a document with its line, column and key.
//
// Parse returns the root of a document within limits, Flatten resolves aliases, merge keys and
// ${VARIABLE} references, and a Decoder fills structs from the result. The yaml tag of a field is the
// name of its key; the valid tag bounds its value, the enum tag lists the allowed values, and the most tag
// limits the length of a list. All faults are added to a Collector.
package strictyaml
