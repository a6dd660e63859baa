package limit

import (
	"math/rand/v2"
	"testing"
)

func TestConcurrencyGrantsAtMostItsLimit(t *testing.T) {
	for _, limit := range []int64{0, 1, 2, 7} {
		var c Concurrency
		for i := range limit {
			if !c.TryAcquire(limit) {
				t.Fatalf("limit %d: permit %d was refused", limit, i+1)
			}
		}
		if c.TryAcquire(limit) {
			t.Errorf("limit %d: one permit more was granted", limit)
		}
		for range limit {
			c.Release()
		}
		if got := c.TryAcquire(limit); got != (limit > 0) {
			t.Errorf("limit %d: after all releases TryAcquire returned %v", limit, got)
		}
	}
}

func TestRetryBudgetGrantsAShareOfRequests(t *testing.T) {
	for name, tt := range map[string]struct {
		requests int
		share    float64
		attempts int
		want     int // retries granted after the last request
	}{
		"no request":                            {0, 0.2, 3, 0},
		"no share":                              {100, 0, 3, 0},
		"first request":                         {1, 0.2, 3, 3},
		"small shares add up":                   {10, 0.125, 3, 4},
		"full bucket":                           {1000, 1, 3, BudgetReserve},
		"more attempts than the default bucket": {1000, 1, 15, 15},
	} {
		t.Run(name, func(t *testing.T) {
			var b RetryBudget
			for range tt.requests {
				b.Deposit(tt.share, tt.attempts)
			}
			got := 0
			for b.TryWithdraw() {
				got++
			}
			if got != tt.want {
				t.Errorf("%d retries granted, want %d", got, tt.want)
			}
		})
	}
}

// In any order of deposits and withdrawals, retries stay within the initial tokens plus the share of requests.
func TestRetryBudgetNeverExceedsDeposits(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		share, attempts := random.Float64(), 1+random.IntN(5)
		var b RetryBudget
		requests, retries := 0, 0
		for range 2000 {
			if random.IntN(2) == 0 {
				b.Deposit(share, attempts)
				requests++
			} else if b.TryWithdraw() {
				retries++
			}
			if most := float64(attempts) + share*float64(requests); float64(retries) > most {
				t.Fatalf("seed %d: %d retries after %d requests, want at most %.2f", seed, retries, requests, most)
			}
		}
	}
}
