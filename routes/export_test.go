package routes

import "flag"

// Update makes tests write the golden files, the schema and the reference instead of comparing them.
var Update = flag.Bool("update", false, "write what is expected from what is")
