package servicelink_test

import (
	"testing"

	"cbproxy/internal/servicelink"
)

func TestIs(t *testing.T) {
	environ := map[string]string{"APP_NAME": "/web/app", "APP_WEB_NAME": "web"}
	for variable, want := range map[string]bool{
		"APP_SERVICE_HOST":            true,
		"APP_SERVICE_PORT":            true,
		"APP_WEB_SERVICE_PORT_HTTP":   true,
		"APP_PORT":                    true,
		"APP_WEB_PORT_80_TCP":         true,
		"APP_WEB_PORT_80_TCP_ADDR":    true,
		"APP_PORT_80_UDP_PORT_START":  true,
		"APP_NAME":                    true,
		"APP_ENV_TIMEOUT":             true,
		"APP_WEB_NAME":                false,
		"APP_WEB_ENV_TIMEOUT":         false,
		"APP_WEB_TIMEOUT":             false,
		"APP_WEB_SERVICE":             false,
		"APP_WEB_PORT_80":             false,
		"APP_WEB_PORT_80_TCP_TIMEOUT": false,
		"APP_":                        false,
	} {
		if got := servicelink.Is(variable, "APP_", environ); got != want {
			t.Errorf("%s: got %t, want %t", variable, got, want)
		}
	}
}
