//! Major page faults in a capture are those that the kernel counts for the task: the table `major_fault`.

use ebrec_tests::{Result, int, recorded, require_bpf, target_dir, workload};

#[test]
fn every_major_fault_is_a_row_with_its_address() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Where the tests are built there is a disk.
    let dir = target_dir().to_string_lossy().into_owned();
    let (truth, capture) = recorded(&["--probes", "fault"], || workload(&["major-faults", "200", "--dir", &dir]))?;
    let (first, step, pages) = (int(&truth["address"])?, int(&truth["page_bytes"])?, int(&truth["pages"])?);
    let rows = capture.sql(&format!(
        "SELECT address, ip FROM major_fault WHERE tid = {} AND address BETWEEN {first} AND {} ORDER BY ts",
        truth["tid"],
        first + pages * step - 1
    ))?;
    let addresses: Vec<i64> = rows.iter().map(|row| int(&row["address"])).collect::<Result<_>>()?;
    assert_eq!(addresses, (0..pages).map(|page| first + page * step).collect::<Vec<_>>());
    // One loop read them all, unrolled perhaps.
    let instructions: Vec<i64> = rows.iter().map(|row| int(&row["ip"])).collect::<Result<_>>()?;
    let (low, high) = (instructions.iter().min(), instructions.iter().max());
    assert!(low.zip(high).is_some_and(|(low, high)| *low > 0 && high - low < 1024), "{low:?} to {high:?}");
    Ok(())
}
