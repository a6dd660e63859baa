// Command gosec looks for faults of security in what is released, by gosec's rules. It is gosec's own
// command without what would ask a language model, which takes minutes to compile.
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

// excluded are rules whose every finding is the same and no fault. What else is none says so at its line.
//
//   - G115: the integers that are converted are counts and sizes, bounded by the configuration's limits or by
//     what is in memory; those in what others wrote are checked first, and fuzzed.
//   - G304: the files that are opened are those that the operator named, or in the folder that the operator named.
var excluded = []string{"G115", "G304"}

// unreleased are the folders of benchmarks and tests, which are given nothing by strangers.
var unreleased = []string{`\.ci`, "internal/bench", "internal/redistest", "internal/suites", "internal/manifests", "fallbacks/fallbacktest", "examples/strategy"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gosec FOLDER")
		os.Exit(2)
	}
	found, err := look(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gosec:", err)
		os.Exit(1)
	}
	if found > 0 {
		os.Exit(1)
	}
}

// look prints what it finds below a folder and returns how much that is.
func look(folder string) (found int, err error) {
	folder, err = filepath.Abs(folder)
	if err != nil {
		return 0, err
	}
	if err := os.Chdir(folder); err != nil { // the module's packages are found from here
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
			fmt.Printf("%s:%d: can't be looked at: %s\n", file, e.Line, e.Err)
		}
	}
	fmt.Printf("gosec: %d files, %d findings, %d passed over with a reason\n", metrics.NumFiles, len(issues), metrics.NumNosec)
	return len(issues) + len(failures), nil
}
