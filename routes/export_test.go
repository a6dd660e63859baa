package routes

import "flag"

// Update makes the golden files and the schema what the code makes of them.
var Update = flag.Bool("update", false, "write what is expected from what is")
