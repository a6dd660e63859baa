package statusview

import (
	"fmt"

	"cbproxy/internal/admin"
)

// keysText says how many of a service's keys are not closed; "" if there are no keys.
func keysText(k *admin.KeysSummary) string {
	if k == nil || k.Total == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d not closed", k.Open+k.HalfOpen, k.Total)
}
