// Package learning compares the learning breaker with the breaker without it, and with the formulas of other projects, on made records
// of calls. The same seeds make the same records. With -update all records are run, and docs/learning-benchmark.md is written.
package learning

import "flag"

var update = flag.Bool("update", false, "run all records and write docs/learning-benchmark.md")
