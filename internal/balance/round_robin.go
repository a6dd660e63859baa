package balance

// roundRobin returns the endpoints one after the other.
func roundRobin(s *Set, list []*Endpoint, usable indexes) *Endpoint {
	turn := (s.turn.Add(1) - 1) % uint64(usable.count())
	return list[usable.at(int(turn))] // #nosec G115 -- below MaxEndpoints
}
