package cluster

// opRecord is an operation that was applied and what came of it.
type opRecord struct {
	ID string `json:"id"`
	Op Op     `json:"op"`
	// Result is the encoded Result.
	Result []byte `json:"result"`
}

// opLog remembers the newest operations, so that a retry is answered and not done
// again. Both the number and the bytes are bounded; the oldest are forgotten.
type opLog struct {
	records []opRecord // oldest first
	index   table[string, int]
	base    int // index value of records[0]
	bytes   int
}

func (l *opLog) find(id string) (Op, Result, bool) {
	at, ok := l.index.m[id]
	if !ok {
		return 0, Result{}, false
	}
	rec := l.records[at-l.base]
	var res Result
	if err := unmarshal(rec.Result, &res); err != nil {
		// Restore checks every record and add encodes what it was given.
		panic("cluster: remembered result cannot be read: " + err.Error())
	}
	return rec.Op, res, true
}

func (l *opLog) add(id string, op Op, res Result) {
	l.addRecord(opRecord{ID: id, Op: op, Result: marshal(res)})
}

func (l *opLog) addRecord(rec opRecord) {
	l.index.put(rec.ID, l.base+len(l.records))
	// The slice only grows at its end and shrinks at its start: a reader that
	// shares the array never sees a change within its own part.
	l.records = append(l.records, rec)
	l.bytes += rec.size()
	for len(l.records) > maxOps || l.bytes > maxOpsBytes && len(l.records) > 1 {
		l.bytes -= l.records[0].size()
		l.index.drop(l.records[0].ID)
		l.records = l.records[1:]
		l.base++
	}
}

func (r opRecord) size() int { return len(r.ID) + len(r.Result) + 64 }

func (l *opLog) share() opLog {
	n := len(l.records)
	return opLog{records: l.records[:n:n], index: l.index.share(), base: l.base, bytes: l.bytes}
}
