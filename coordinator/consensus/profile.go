package consensus

import "time"

// Profile is a set of raft's timings. Heartbeat and Election are how long a
// follower waits for a leader, and a candidate for votes; Lease is how long a
// leader stays one without hearing from a quorum; Commit is how soon an idle
// leader tells followers what is committed.
type Profile struct {
	Heartbeat, Election, Lease, Commit time.Duration
}

// Single is for one voter: nobody can be slow, so a restart elects at once.
func Single() Profile {
	return Profile{
		Heartbeat: 50 * time.Millisecond, Election: 50 * time.Millisecond,
		Lease: 50 * time.Millisecond, Commit: 50 * time.Millisecond,
	}
}

// Region is for voters in one region.
func Region() Profile {
	return Profile{
		Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond,
		Lease: 200 * time.Millisecond, Commit: 50 * time.Millisecond,
	}
}

// Times returns the profile n times slower: 3 across regions and where the
// race detector runs.
func (p Profile) Times(n int) Profile {
	d := time.Duration(n)
	return Profile{Heartbeat: p.Heartbeat * d, Election: p.Election * d, Lease: p.Lease * d, Commit: p.Commit}
}
