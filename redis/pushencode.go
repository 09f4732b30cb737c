package redis

import (
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// scratch is where a load is encoded on its way into a command.
type scratch struct {
	batch  pushBatch
	stored []byte
	record []byte
}

func newScratch() *scratch {
	return &scratch{batch: pushBatch{stored: make([]byte, 0, 1024)}, stored: make([]byte, 0, 512)}
}

// encode makes the load of runs. It is valid until the next call.
func (s *scratch) encode(q *queue, list int, runs []*broker.TaskRun) error {
	if s.batch.weight() > maxWeight {
		s.batch = pushBatch{}
	}
	pb := &s.batch
	*pb = pushBatch{list: list, n: len(runs), stored: pb.stored[:0], records: pb.records[:0]}
	for _, run := range runs {
		stored, err := wire.AppendRun(s.stored[:0], run)
		if err != nil {
			return fmt.Errorf("encode run %s: %w", run.ID, err)
		}
		s.stored = stored
		pb.stored = resp.AppendBulk(pb.stored, stored)
		if run.Keep > 0 {
			s.record = append(append(append(s.record[:0], q.Base...), "rec:"...), run.ID...)
			pb.records = resp.AppendBulk(pb.records, s.record)
			s.record = wire.AppendRecord(wire.StartRecord(s.record[:0], broker.StateQueued), run, nil)
			pb.records = resp.AppendBulk(pb.records, s.record)
			pb.kept++
		}
	}
	return nil
}
