package limit

import "sync"

// RetryBudget is a token bucket that limits retries to a share of a route's traffic: each request deposits a part of a token,
// each retry withdraws one. Safe for concurrent use; the zero RetryBudget is ready to use.
type RetryBudget struct {
	mu     sync.Mutex // guards what follows
	tokens int64      // in millionths, so that small shares add up
	used   bool       // Deposit has been called
}

const token = 1_000_000

// BudgetReserve is the number of tokens that a bucket holds at most.
const BudgetReserve = 10

// Deposit adds the tokens of one request: share, from 0 to 1. A bucket starts with attempts tokens, enough for the retries of
// one request: a route with little traffic would otherwise have none.
func (b *RetryBudget) Deposit(share float64, attempts int) {
	if share <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.used {
		b.used, b.tokens = true, int64(attempts)*token
	}
	b.tokens = min(b.tokens+int64(share*token), max(BudgetReserve, int64(attempts))*token)
}

// TryWithdraw takes the token of a retry, if there is one.
func (b *RetryBudget) TryWithdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < token {
		return false
	}
	b.tokens -= token
	return true
}
