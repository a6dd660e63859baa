// Package loadgen generates HTTP/1.1 load over keep-alive connections and measures the latency of each request. It uses
// little CPU time identity, because it runs on the machine of the processes that are measured.
package loadgen
