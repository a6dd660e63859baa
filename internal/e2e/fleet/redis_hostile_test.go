package fleet

import (
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// hostileReplies make a client that does not limit them allocate or recurse without bounds, or panic.
var hostileReplies = []string{
	"*1000000000\r\n", "%500000000\r\n", "$1000000000\r\n", "*9223372036854775806\r\n", "$9223372036854775806\r\n", "*0\r\n", "*1\r\n:1\r\n",
	strings.Repeat("*100000\r\n", 100), strings.Repeat("*1\r\n", 100_000), "+" + strings.Repeat("a", 1<<20) + "\r\n", "*2\r\n+message\r\n:1\r\n",
}

// TestMaliciousRedisRepliesDoNotStopProxy checks that malicious replies of a Redis server or a Sentinel
// neither exhaust the proxy's memory nor crash it.
func TestMaliciousRedisRepliesDoNotStopProxy(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"server": "", "Sentinel": "?master_name=main"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			var server *redistest.Scripted
			server = redistest.StartScripted(t, nil, func(command []string) string {
				n := sent.Add(1)
				if n%2 == 0 && strings.EqualFold(command[len(command)-1], "main") { // the proxy subscribes to the Sentinel only after a valid reply
					host, port, _ := net.SplitHostPort(server.Address())
					return "*2\r\n+" + host + "\r\n+" + port + "\r\n"
				}
				return hostileReplies[int(n)%len(hostileReplies)]
			})
			u := harness.StartUpstream(t)
			p := harness.StartProxy(t, harness.Options{Config: `redis: {url: "redis://` + server.Address() + path + `"}
routes:
  rag_service: {upstream: ` + u.URL() + `}
  notifier_service: {upstream: ` + u.URL() + `}
  vms_service: {upstream: ` + u.URL() + `}
`})
			allReplies := int64(4 * len(hostileReplies))
			harness.Eventually(t, "the server has sent all of its replies", func() bool { return sent.Load() >= allReplies })
			if r := p.Get("/rag/query"); r.Status != http.StatusOK {
				t.Errorf("%+v", r)
			}
			if peak := peakMemory(t, p.Cmd.Process.Pid); peak > 512<<20 {
				t.Errorf("peak resident memory is %d MiB", peak>>20)
			}
		})
	}
}

// peakMemory returns the peak resident memory of a process in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
