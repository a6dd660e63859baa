package routes

import "cbproxy/internal/strictyaml"

// MaxFileBytes is the largest configuration file that is accepted.
const MaxFileBytes = strictyaml.MaxFileBytes

// Size is a number of bytes. In YAML it is a number, or text with a unit such as 64KiB.
type Size = strictyaml.Size

// Fault is one error in a configuration with its position.
type Fault = strictyaml.Fault

// Faults are all errors in a configuration, in the order of the file. It is an error.
type Faults = strictyaml.Faults
