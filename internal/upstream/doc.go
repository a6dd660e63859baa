// Package upstream sends requests to upstreams: it resolves and dials host names, pools connections, removes hop-by-hop fields
// and classifies the errors of failed requests.
package upstream
