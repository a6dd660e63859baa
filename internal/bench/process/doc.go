// Package process starts the processes of a benchmark, pins them to cores, and measures their CPU time and memory.
package process
