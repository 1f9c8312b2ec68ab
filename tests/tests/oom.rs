//! A process that the kernel killed for want of memory is in the table `oom_kill`, with what it had.

use ebrec_tests::{Result, int, recorded, require_bpf, workload};
use serde_json::json;

#[test]
fn a_victim_is_recorded_with_its_memory() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "oom"], || workload(&["oom"]))?;
    let victim = &truth["victim"];
    let row = capture.row(&format!("SELECT * FROM oom_kill WHERE victim_pid = {}", victim["pid"]))?;
    // It was its own page fault.
    for (own, column) in [("pid", "pid"), ("tid", "tid"), ("comm", "comm"), ("tid", "victim_tid"), ("comm", "victim_comm")] {
        assert_eq!(row[column], victim[own], "{column} {row}");
    }
    assert_eq!((&row["oom_score_adj"], &row["victim_uid"]), (&victim["oom_score_adj"], &victim["uid"]), "{row}");
    assert_eq!(row["process_id"], row["victim_process_id"]);
    let limit = int(&truth["limit_bytes"])?;
    // The cgroup is charged for what its processes use, and for the page tables and the like; the counters are off by what the CPUs
    // haven't added up yet (32 pages each at most, PERCPU_COUNTER_BATCH).
    let anonymous = int(&row["anon_rss_bytes"])?;
    assert!(limit * 9 / 10 < anonymous && anonymous < limit + (4 << 20), "{row}");
    assert!(int(&row["total_vm_bytes"])? > 2 * limit, "{row}");
    // What ran out is only visible where there are trampolines; where it is, it is the cgroup.
    if !row["oom_constraint"].is_null() {
        assert_eq!((&row["oom_constraint"], &row["allowed_bytes"]), (&json!("memcg"), &truth["limit_bytes"]), "{row}");
        assert_eq!(row["limit_cgroup_id"], truth["limit_cgroup_id"]);
    }
    Ok(())
}
