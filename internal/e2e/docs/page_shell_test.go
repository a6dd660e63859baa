package docs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// shellVariable makes the test binary run a shell in its own network namespace, in the folder that is its value.
const shellVariable = "CBPROXY_E2E_SHELL"

// execShell turns this process into a shell with the given working directory. It does not return unless it fails.
func execShell(folder string) error {
	if err := os.Chdir(folder); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, loopback); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return err
	}
	return syscall.Exec(bash, []string{"bash", "--norc", "--noprofile"}, os.Environ())
}

// shell runs the blocks of a page in sequence in one session. It has its own network namespace, so that the
// ports used by the page are free.
type shell struct {
	t        testing.TB
	folder   string // the working directory
	scripts  string // folder of its scripts and their output
	command  *exec.Cmd
	commands io.Writer
	results  *bufio.Scanner // of scripts, from file descriptor 3
	files    int
	running  []background
}

// background is a command that runs in another terminal.
type background struct {
	url    string
	group  int // process group ID
	output string
}

// shellTimeout is longer than compiling everything takes.
const shellTimeout = 4 * time.Minute

// startShell starts a shell in the given working directory.
func startShell(t testing.TB, folder string) *shell {
	t.Helper()
	s := &shell{t: t, folder: folder, scripts: t.TempDir()}
	bin := filepath.Join(s.scripts, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(), filepath.Join(bin, "cbproxy")); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.command = exec.Command(self)
	s.command.Env = append(harness.WithoutConfiguration(os.Environ()),
		shellVariable+"="+folder, "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir(),
		"CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false -pgo=off") // so that the build cache works for every copy of the repository
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		s.command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		s.command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		s.command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	input, err := s.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.commands = input
	results, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.results = bufio.NewScanner(results)
	s.command.ExtraFiles = []*os.File{write} // 3
	s.command.Stderr = os.Stderr
	if err := s.command.Start(); err != nil {
		testenv.SkipUnlessCI(t, "a network namespace", err)
	}
	_ = write.Close()
	t.Cleanup(func() {
		s.end()
		_ = results.Close()
	})
	s.eval("set -emo pipefail; echo ready >&3")
	return s
}

// eval makes the shell run a script that ends by writing a line to file descriptor 3. It returns that line,
// or an empty string if the shell has exited.
func (s *shell) eval(script string) string {
	s.t.Helper()
	timeout := time.AfterFunc(shellTimeout, func() { _ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL) })
	defer timeout.Stop()
	_, _ = fmt.Fprintln(s.commands, script) // a failed write shows as an empty result
	if !s.results.Scan() {
		return ""
	}
	return s.results.Text()
}

// script writes commands to a file. It returns the name of that file and the name of the output file.
func (s *shell) script(commands string) (script, output string) {
	s.t.Helper()
	s.files++
	script = filepath.Join(s.scripts, strconv.Itoa(s.files)+".sh")
	if err := os.WriteFile(script, []byte(commands), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return script, script + ".out"
}

// run runs commands until one fails. It returns their output.
func (s *shell) run(commands string) (output string, ok bool) {
	s.t.Helper()
	script, out := s.script(commands)
	result := s.eval(fmt.Sprintf("source %s </dev/null >%s 2>&1 3>&-; echo ok >&3", script, out))
	return string(harness.ReadFile(s.t, out)), result == "ok"
}

// runOne runs one command, which may fail, and returns its output.
func (s *shell) runOne(command string) string {
	s.t.Helper()
	script, out := s.script(command)
	if s.eval(fmt.Sprintf("{ source %s || true; } </dev/null >%s 2>&1 3>&-; echo ok >&3", script, out)) == "" {
		s.t.Fatalf("the shell exited during: %s", command)
	}
	return string(harness.ReadFile(s.t, out))
}

// start runs commands in another terminal and returns when url responds with 200.
func (s *shell) start(commands, url string) {
	s.t.Helper()
	script, out := s.script(commands)
	group, err := strconv.Atoi(s.eval(fmt.Sprintf("( source %s ) </dev/null >%s 2>&1 3>&- & echo $! >&3", script, out)))
	if err != nil {
		s.t.Fatalf("the shell exited during: %s", commands)
	}
	s.running = append(s.running, background{url, group, out})
	result := s.eval(fmt.Sprintf("until curl -s -f -o /dev/null -m 5 %s; do kill -0 %d 2>/dev/null || break; sleep 0.05; done; kill -0 %d 2>/dev/null && echo up >&3 || echo gone >&3", url, group, group))
	if result != "up" {
		s.t.Fatalf("%s does not respond; output of the command:\n%s", url, harness.ReadFile(s.t, out))
	}
}

// interrupt sends Ctrl-C to the terminal that was started with url.
func (s *shell) interrupt(url string) {
	s.t.Helper()
	i := slices.IndexFunc(s.running, func(b background) bool { return b.url == url })
	if i < 0 {
		s.t.Fatalf("no background command for %s", url)
	}
	b := s.running[i]
	s.running = slices.Delete(s.running, i, i+1)
	_ = syscall.Kill(-b.group, syscall.SIGINT)
	s.eval(fmt.Sprintf("wait %d || true; echo ended >&3", b.group))
	harness.Eventually(s.t, "the command of "+url+" has ended", func() bool { return syscall.Kill(-b.group, 0) != nil })
}

// end stops every process in the shell's network namespace. It interrupts background commands first, so
// that they can shut down.
func (s *shell) end() {
	for _, b := range s.running {
		_ = syscall.Kill(-b.group, syscall.SIGINT)
	}
	for _, b := range s.running {
		for deadline := time.Now().Add(harness.EventTimeout); syscall.Kill(-b.group, 0) == nil && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		}
	}
	networkOf := func(pid string) string {
		network, _ := os.Readlink(filepath.Join("/proc", pid, "ns/net")) // "" if the process has exited
		return network
	}
	shellNetwork, testNetwork := networkOf(strconv.Itoa(s.command.Process.Pid)), networkOf("self")
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && shellNetwork != "" && shellNetwork != testNetwork && networkOf(filepath.Base(p)) == shellNetwork {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL)
	_ = s.command.Wait()
}
