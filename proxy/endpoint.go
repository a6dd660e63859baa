package proxy

import "net/url"

// chooseEndpoint chooses the endpoint of the attempt, another one than those of earlier attempts if possible, and makes u its address. The
// error is classified as one of a request without a connection.
func (a *attempt) chooseEndpoint(u *url.URL) error {
	x := a.x
	lease, err := x.route.Endpoints.Pick(a, x.tried...)
	if err != nil {
		return err
	}
	a.lease = lease
	lease.Target.SetURL(u, x.upstreamPath)
	x.outcome.Endpoint = lease.URL
	return nil
}
