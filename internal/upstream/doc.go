// Package upstream sends requests to upstreams: it dials names, pools connections, removes hop-by-hop fields and classifies the
// errors of failed requests.
package upstream
