package commands

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cbproxy/internal/e2e/harness"
)

// TestScripts runs each script of testdata/script in a folder of its own, in parallel. testscript documents the format
// and its built-in commands. The scripts have these commands in addition:
//
//	cbproxy ARG...                     run cbproxy; the exit status must be 0
//	exits STATUS PROGRAM ARG...        run a program; the exit status must be STATUS
//	await PATTERN cbproxy ARG...       repeat a cbproxy command until its standard output matches PATTERN
//	json KEY...                        standard output is one JSON document with these keys: see checkJSON
//	proxy FILE                         start a proxy: see startProxy
//	enqueue BODY...                    send requests that the proxy queues: see enqueue
//	upstream [start | received BODY..] control an upstream that starts later: see controlUpstream
//	server [-tls] [-hold] NAME FILE    start a server that sends the content of FILE: see startServer
//	address NAME...                    set each variable to an unused address, HOST:PORT
//
// cbproxy is the binary that the harness builds. It gets the environment of the script, not that of the tests.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Values[stateKey{}] = &scriptState{t: env.T().(testing.TB)}
			env.Setenv("PATH", filepath.Dir(harness.Binary())+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("REPOSITORY", harness.Repository)
			env.Vars = append(env.Vars, harness.ExitWithoutDelay)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cbproxy":  runCbproxy,
			"exits":    runWithExitStatus,
			"await":    awaitOutput,
			"json":     checkJSON,
			"proxy":    startProxy,
			"enqueue":  enqueue,
			"upstream": controlUpstream,
			"server":   startServer,
			"address":  setAddresses,
		},
	})
}

// scriptState is what a script has started.
type scriptState struct {
	t        testing.TB
	proxy    *harness.Proxy    // nil until the script starts it
	upstream *harness.Recorder // nil until the script reserves its address
}

type stateKey struct{}

func stateOf(ts *testscript.TestScript) *scriptState { return ts.Value(stateKey{}).(*scriptState) }

// requireUsage fails the script unless ok holds and the command is not negated.
func requireUsage(ts *testscript.TestScript, neg, ok bool, usage string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

// runCbproxy implements the command cbproxy.
func runCbproxy(ts *testscript.TestScript, neg bool, args []string) {
	requireUsage(ts, neg, true, "cbproxy ARG... (for a failure: exits STATUS cbproxy ARG...)")
	expectStatus(ts, 0, append([]string{"cbproxy"}, args...))
}

// runWithExitStatus implements the command exits.
func runWithExitStatus(ts *testscript.TestScript, neg bool, args []string) {
	requireUsage(ts, neg, len(args) >= 2, "exits STATUS PROGRAM ARG...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	expectStatus(ts, want, args[1:])
}

func expectStatus(ts *testscript.TestScript, want int, command []string) {
	if got := run(ts, command); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// run runs a program and returns its exit status. It checks what holds for every command: it ends in time, and its
// output has no escape sequence, which only a terminal gets, and no admin token. All tokens of the scripts end in
// "-secret".
func run(ts *testscript.TestScript, command []string) int {
	start := time.Now()
	err := ts.Exec(command[0], command[1:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if took := time.Since(start); took > harness.EventTimeout {
		ts.Fatalf("the command took %v, want at most %v", took, harness.EventTimeout)
	}
	for _, stream := range []string{"stdout", "stderr"} {
		text := ts.ReadFile(stream)
		if strings.Contains(text, "\x1b") {
			ts.Fatalf("%s has an escape sequence: %q", stream, text)
		}
		if strings.Contains(text, "-secret") {
			ts.Fatalf("%s has a token", stream)
		}
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// awaitOutput implements the command await.
func awaitOutput(ts *testscript.TestScript, neg bool, args []string) {
	requireUsage(ts, neg, len(args) >= 2 && args[1] == "cbproxy", "await PATTERN cbproxy ARG...")
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	harness.Eventually(stateOf(ts).t, "standard output matches "+args[0], func() bool {
		expectStatus(ts, 0, args[1:])
		return pattern.MatchString(ts.ReadFile("stdout"))
	})
}

// checkJSON implements the command json: standard output of the previous command is one JSON document, an object with
// the given keys or an array of such objects.
func checkJSON(ts *testscript.TestScript, neg bool, keys []string) {
	requireUsage(ts, neg, true, "json KEY...")
	text := []byte(ts.ReadFile("stdout"))
	var objects []map[string]json.RawMessage
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &objects) != nil {
		if err := json.Unmarshal(text, &object); err != nil {
			ts.Fatalf("standard output is not one JSON document: %v", err)
		}
		objects = append(objects, object)
	}
	for _, o := range objects {
		for _, key := range keys {
			if o[key] == nil {
				ts.Fatalf("standard output has no key %q", key)
			}
		}
	}
}
