// Command prometheusrule prints the rules as a PrometheusRule object for the Prometheus operator:
//
//	go run ./monitoring/prometheusrule >monitoring/prometheusrule.yaml
package main

import (
	"fmt"
	"os"
	"strings"
)

const head = `# Generated from recording.yaml and alerts.yaml by go run ./monitoring/prometheusrule.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: cbproxy
  labels:
    app.kubernetes.io/name: cbproxy
spec:
  groups:
`

func main() {
	var b strings.Builder
	b.WriteString(head)
	file := map[string]string{} // file name by group
	for _, name := range []string{"recording.yaml", "alerts.yaml"} {
		content, err := os.ReadFile("monitoring/" + name)
		if err != nil {
			fmt.Fprintln(os.Stderr, "prometheusrule: run it in the root of the repository:", err)
			os.Exit(1)
		}
		_, groups, found := strings.Cut("\n"+string(content), "\ngroups:\n")
		if !found {
			fmt.Fprintf(os.Stderr, "prometheusrule: %s has no groups\n", name)
			os.Exit(1)
		}
		for line := range strings.Lines(groups) {
			if group, ok := strings.CutPrefix(line, "  - name: "); ok {
				group = strings.TrimSpace(group)
				if other := file[group]; other != "" { // the API server rejects duplicates
					fmt.Fprintf(os.Stderr, "prometheusrule: group %s is in %s and in %s\n", group, other, name)
					os.Exit(1)
				}
				file[group] = name
			}
			if strings.TrimSpace(line) != "" {
				line = "  " + line
			}
			b.WriteString(line)
		}
	}
	fmt.Print(b.String())
}
