// Package servicelink recognizes the environment variables that Kubernetes and Docker set in a container for the services that it can
// reach. They are no part of a configuration that has variables with the same prefix.
package servicelink

import (
	"regexp"
	"strings"
)

// pattern matches what follows CIRCUIT_BREAKER in the name of a variable that Kubernetes sets in each pod for a Service
// whose name begins with circuit-breaker: the host, the ports, and the older variables in the form of Docker links, which
// Docker also sets for ranges of ports.
var pattern = regexp.MustCompile(`^(_[A-Z0-9_]+)?(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|` +
	`_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|ADDR|PORT|START|END|PORT_START|PORT_END))?)?)$`)

// linkName matches the value of the variable …_NAME that Docker sets for a link: the two containers.
var linkName = regexp.MustCompile(`^/[^/]+/[^/]+$`)

// Is reports whether an orchestrator has set a variable for a service that is named like prefix, with which the variable begins and
// which ends in an underscore. environ has all variables by name.
func Is(variable, prefix string, environ map[string]string) bool {
	if pattern.MatchString("_" + strings.TrimPrefix(variable, prefix)) {
		return true
	}
	if strings.HasSuffix(variable, "_NAME") {
		return linkName.MatchString(environ[variable])
	}
	for i := range variable { // a link's _ENV_ variables have names of the other container's choice
		if strings.HasPrefix(variable[i:], "_ENV_") && linkName.MatchString(environ[variable[:i]+"_NAME"]) {
			return true
		}
	}
	return false
}
