package endpoints

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"

	"golang.org/x/net/dns/dnsmessage"
)

// host is the name whose addresses the DNS server returns.
const host = "rag.test"

// dnsServer is a DNS server on an address of this machine.
type dnsServer struct {
	address string
	queries atomic.Int64

	mu        sync.Mutex
	addresses []netip.Addr
	code      dnsmessage.RCode
	silent    bool // it does not answer
}

// startDNS starts a server that knows no name. The test is skipped if the port of DNS can't be used, as without root's rights.
func startDNS(t testing.TB) *dnsServer {
	t.Helper()
	var err error
	for range 20 { // other tests use other addresses
		ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
		var packets net.PacketConn
		if packets, err = net.ListenPacket("udp", ip+":53"); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", ip+":53"); err != nil {
			_ = packets.Close()
			continue
		}
		d := &dnsServer{address: ip, code: dnsmessage.RCodeNameError}
		go d.servePackets(packets)
		go d.serveConnections(l)
		t.Cleanup(func() {
			_ = packets.Close()
			_ = l.Close()
		})
		return d
	}
	testenv.SkipUnlessCI(t, "a DNS server on port 53", err)
	return nil
}

// set sets the addresses of the name.
func (d *dnsServer) set(addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses, d.code, d.silent = nil, dnsmessage.RCodeSuccess, false
	for _, a := range addresses {
		d.addresses = append(d.addresses, netip.MustParseAddr(a))
	}
}

// fail makes all queries fail with a code.
func (d *dnsServer) fail(code dnsmessage.RCode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code, d.silent = code, false
}

// silence makes the server answer nothing.
func (d *dnsServer) silence() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = true
}

func (d *dnsServer) servePackets(c net.PacketConn) {
	query := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(query)
		if err != nil {
			return
		}
		if answer := d.answer(query[:n], 512); answer != nil {
			_, _ = c.WriteTo(answer, from)
		}
	}
}

func (d *dnsServer) serveConnections(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var length [2]byte
			for {
				if _, err := io.ReadFull(c, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(c, query); err != nil {
					return
				}
				answer := d.answer(query, 65535)
				if answer == nil {
					return
				}
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

// answer returns the answer to a query, which is marked as truncated and has no addresses if they do not fit in limit; nil: none. Its
// time to live is an hour, which must not matter.
func (d *dnsServer) answer(query []byte, limit int) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queries.Add(1)
	if d.silent {
		return nil
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: d.code},
		Questions: []dnsmessage.Question{q},
	}
	if d.code == dnsmessage.RCodeSuccess && q.Name.String() == host+"." {
		for _, a := range d.addresses {
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: uint32(time.Hour / time.Second)}
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	answer, err := m.Pack()
	if err == nil && len(answer) > limit {
		m.Truncated, m.Answers = true, nil
		answer, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return answer
}

// startWithDNS starts a proxy that asks d only. It has its own mount namespace, in which another file is /etc/resolv.conf, so that
// nothing else on this machine is affected. The test is skipped if namespaces are not permitted.
func startWithDNS(t testing.TB, d *dnsServer, content string) *harness.Proxy {
	t.Helper()
	if out, err := exec.Command("unshare", "-rm", "true").CombinedOutput(); err != nil {
		testenv.SkipUnlessCI(t, "a mount namespace", fmt.Errorf("%w: %s", err, out))
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+d.address+"\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return harness.StartProxy(t, harness.Options{
		Config:  content,
		Wrapper: []string{"unshare", "-rm", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file},
	})
}
