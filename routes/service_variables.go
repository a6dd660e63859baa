package routes

import (
	"regexp"
	"strings"
)

// serviceLink matches what follows CIRCUIT_BREAKER in the name of a variable that Kubernetes sets in each pod for a Service
// whose name begins with circuit-breaker: the host, the ports, and the older variables in the form of Docker links, which
// Docker also sets for ranges of ports.
var serviceLink = regexp.MustCompile(`^(_[A-Z0-9_]+)?(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|` +
	`_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|ADDR|PORT|START|END|PORT_START|PORT_END))?)?)$`)

// linkName matches the value of the variable …_NAME that Docker sets for a link: the two containers.
var linkName = regexp.MustCompile(`^/[^/]+/[^/]+$`)

// isServiceLink reports whether an orchestrator has set a variable, which begins with ServicePrefix, for a service
// that is named like the prefix. The variable is no part of the configuration.
func isServiceLink(variable string, environ map[string]string) bool {
	if serviceLink.MatchString("_" + strings.TrimPrefix(variable, ServicePrefix)) {
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
