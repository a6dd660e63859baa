package app

import (
	"os"

	"cbproxy/fallbacks"
	_ "cbproxy/fallbacks/standard" // registers the built-in strategies
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/store"
	"cbproxy/routes"
)

// NewLoader returns a loader of the configuration file at path that knows the built-in fallbacks, the registered strategies
// and the environment.
func NewLoader(path string) routes.Loader {
	return routes.Loader{
		Path:       path,
		Builtin:    fallbacks.Builtin(),
		Strategies: fallbacks.Options(),
		Algorithms: algorithm.Options(),
		RedisURL:   store.ValidateRedisURL,
		Environ:    os.Environ(),
	}
}
