package drpc

import (
	"strings"

	"daosbox/engine/drpc/pb"
)

// The events that the control plane raises or acts on. Names are the same in all
// releases, numbers are not.
const (
	EventEngineDied           = "engine_died"
	EventEngineFormatRequired = "engine_format_required"
	EventEngineJoinFailed     = "engine_join_failed"
	EventEngineSelfTerminated = "engine_self_terminated"
	EventPoolReplicasUpdated  = "pool_replicas_updated"
	EventSwimRankDead         = "swim_rank_dead"
)

// Types of an event.
const (
	EventStateChange uint32 = 1
	EventInfo        uint32 = 2
)

// Severities of an event since 2.0.
const (
	SeverityError   uint32 = 1
	SeverityWarning uint32 = 2
	SeverityNotice  uint32 = 3
)

const none = -1

// eventRow has the numbers of one event, a column per family from V12 to VHead.
type eventRow struct {
	name string
	id   [9]int8
}

// events moves its numbers with each release, since an engine counts positions in
// a list: the same number means another event in another release.
var events = []eventRow{
	{"unknown_ras_event", [9]int8{0, 0, 0, 0, 0, 0, 0, 0, 0}},
	{"engine_format_required", [9]int8{none, 1, 1, 1, 1, 1, 1, 1, 1}},
	{"engine_died", [9]int8{none, 2, 2, 2, 2, 2, 2, 2, 2}},
	{"engine_asserted", [9]int8{none, 3, 3, 3, 3, 3, 3, 3, 3}},
	{"engine_clock_drift", [9]int8{none, 4, 4, 4, 4, 4, 4, 4, 4}},
	{"engine_self_terminated", [9]int8{none, none, none, none, none, none, none, 5, 5}},
	{"pool_corruption_detected", [9]int8{none, none, none, none, none, 5, 5, 6, 6}},
	{"pool_rebuild_started", [9]int8{4, 5, 5, 6, 6, 6, 6, 7, 7}},
	{"pool_rebuild_finished", [9]int8{5, 6, 6, 7, 7, 7, 7, 8, 8}},
	{"pool_rebuild_failed", [9]int8{6, 7, 7, 8, 8, 8, 8, 9, 9}},
	{"pool_replicas_updated", [9]int8{7, 8, 8, 9, 9, 9, 9, 10, 10}},
	{"pool_durable_format_incompatible", [9]int8{8, 9, 9, 10, 10, 10, 10, 11, 11}},
	{"pool_destroy_deferred", [9]int8{none, 10, 10, 11, 11, 11, 11, 12, 12}},
	{"pool_start_failed", [9]int8{none, none, none, none, none, none, 12, 13, 13}},
	{"container_durable_format_incompatible", [9]int8{13, 11, 11, 12, 12, 12, 13, 14, 14}},
	{"rdb_durable_format_incompatible", [9]int8{14, 12, 12, 13, 13, 13, 14, 15, 15}},
	{"swim_rank_alive", [9]int8{11, 13, 13, 14, 14, 14, 15, 16, 16}},
	{"swim_rank_dead", [9]int8{12, 14, 14, 15, 15, 15, 16, 17, 17}},
	{"system_start_failed", [9]int8{none, 15, 15, 16, 16, 16, 17, 18, 18}},
	{"system_stop_failed", [9]int8{none, 16, 16, 17, 17, 17, 18, 19, 19}},
	{"device_set_faulty", [9]int8{none, none, none, none, 18, 18, 19, 20, 20}},
	{"device_media_error", [9]int8{none, none, none, none, 19, 19, 20, 21, 21}},
	{"device_unplugged", [9]int8{none, none, none, none, 20, 20, 21, 22, 22}},
	{"device_plugged", [9]int8{none, none, none, none, 21, 21, 22, 23, 23}},
	{"device_replace", [9]int8{none, none, none, none, 22, 22, 23, 24, 24}},
	{"system_fabric_provider_changed", [9]int8{none, none, none, none, 23, 23, 24, 25, 25}},
	{"engine_join_failed", [9]int8{none, none, none, none, 24, 24, 25, 26, 26}},
	{"device_link_speed_changed", [9]int8{none, none, none, none, none, 25, 26, 27, 27}},
	{"device_link_width_changed", [9]int8{none, none, none, none, none, 26, 27, 28, 28}},
	{"obj_csum_error", [9]int8{none, none, none, none, none, none, none, none, 29}},
	{"device_led_set", [9]int8{none, none, none, none, none, none, none, 29, 30}},
	{"engine_status_up", [9]int8{1, none, none, none, none, none, none, none, none}},
	{"engine_status_down", [9]int8{2, none, none, none, none, none, none, none, none}},
	{"engine_status_no_response", [9]int8{3, none, none, none, none, none, none, none, none}},
	{"system_action_stop", [9]int8{9, none, none, none, none, none, none, none, none}},
	{"system_action_start", [9]int8{10, none, none, none, none, none, none, none, none}},
	{"corruption_detected", [9]int8{none, none, none, 5, 5, none, none, none, none}},
}

// EventName returns the name of number id in releases of family f, "" when the
// family has no such event.
func EventName(f Family, id uint32) string {
	if f < V12 || f > VHead {
		return ""
	}
	for _, row := range events {
		if row.id[f-V12] >= 0 && uint32(row.id[f-V12]) == id {
			return row.name
		}
	}
	return ""
}

// EventID returns the number of the named event in releases of family f.
func EventID(f Family, name string) (id uint32, ok bool) {
	if f < V12 || f > VHead {
		return 0, false
	}
	for _, row := range events {
		if row.name == name && row.id[f-V12] >= 0 {
			return uint32(row.id[f-V12]), true
		}
	}
	return 0, false
}

// EventOf names an event that an engine sent in the given framing. The framing
// tells less than the release, and the numbers moved inside of both groups of
// releases, so the content decides where it can: only a list of service ranks
// makes pool_replicas_updated, and the only other change of state that engines are
// known to raise is swim_rank_dead. Events of no consequence may be named after
// their neighbour; "" is an unknown number.
func EventOf(framing Framing, e *pb.RASEvent) string {
	f := FamilyOf(framing)
	if e.GetType() == EventStateChange {
		if e.GetPoolSvcInfo() != nil {
			return EventPoolReplicasUpdated
		}
		if deadOf(framing, e) {
			return EventSwimRankDead
		}
	}
	if f == V28 && e.GetId() == 29 && e.GetSeverity() == SeverityError {
		return EventName(VHead, 29)
	}
	if name := EventName(f, e.GetId()); name != "" || framing == Datagram {
		return name
	}
	return EventName(VHead, e.GetId())
}

// deadOf reports whether e is swim_rank_dead in a release since 2.4 with the given
// framing. 2.6.5 gave the number of a dead rank to its opposite, which nobody
// raises today: there, and only there, the text has a say.
func deadOf(framing Framing, e *pb.RASEvent) bool {
	dead, alive := false, false
	for f := V24; f <= FamilyOf(framing); f++ {
		if FramingOf(f) == framing {
			name := EventName(f, e.GetId())
			dead = dead || name == EventSwimRankDead
			alive = alive || name == "swim_rank_alive"
		}
	}
	return dead && !(alive && strings.Contains(e.GetMsg(), "alive"))
}
