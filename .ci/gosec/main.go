// Command gosec runs gosec's rules on the packages of the product. It replaces gosec's own command, which takes minutes to
// compile because of its language model integration.
//
//	go run . FOLDER
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"

	"github.com/securego/gosec/v2"
	"github.com/securego/gosec/v2/analyzers"
	"github.com/securego/gosec/v2/rules"
)

// excluded are rules with only false positives. Other false positives have a #nosec comment.
//
//   - G115: converted integers are counts and sizes, limited by the configuration or by memory. Integers from untrusted
//     input are checked first, and fuzzed.
//   - G304: all opened files are named by the operator, or in a folder named by the operator.
var excluded = []string{"G115", "G304"}

// unreleased are folders with benchmarks and tests, which get no untrusted input.
var unreleased = []string{`\.ci`, "internal/bench", "internal/e2e", "internal/redistest", "internal/suites", "internal/manifests", "fallbacks/fallbacktest", "examples/strategy"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gosec FOLDER")
		os.Exit(2)
	}
	found, err := scan(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gosec:", err)
		os.Exit(1)
	}
	if found > 0 {
		os.Exit(1)
	}
}

// scan prints the findings below a folder and returns their number.
func scan(folder string) (found int, err error) {
	folder, err = filepath.Abs(folder)
	if err != nil {
		return 0, err
	}
	if err := os.Chdir(folder); err != nil { // packages are resolved relative to the working folder
		return 0, err
	}
	packages, err := gosec.PackagePaths(folder+"/...", gosec.ExcludedDirsRegExp(unreleased))
	if err != nil {
		return 0, err
	}
	a := gosec.NewAnalyzer(gosec.NewConfig(), false, true, false, runtime.NumCPU(), log.New(io.Discard, "", 0))
	a.LoadRules(rules.Generate(false, rules.NewRuleFilter(true, excluded...)).RulesInfo())
	a.LoadAnalyzers(analyzers.Generate(false, analyzers.NewAnalyzerFilter(true, excluded...)).AnalyzersInfo())
	if err := a.Process(nil, packages...); err != nil {
		return 0, err
	}
	issues, metrics, failures := a.Report()
	for _, i := range issues {
		fmt.Printf("%s:%s: %s (%s)\n", i.File, i.Line, i.What, i.RuleID)
	}
	for file, errors := range failures {
		for _, e := range errors {
			fmt.Printf("%s:%d: can't be analysed: %s\n", file, e.Line, e.Err)
		}
	}
	fmt.Printf("gosec: %d files, %d findings, %d suppressed by #nosec\n", metrics.NumFiles, len(issues), metrics.NumNosec)
	return len(issues) + len(failures), nil
}
