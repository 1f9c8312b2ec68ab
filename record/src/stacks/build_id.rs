//! Build ids, in the notes that the kernel and ELF files have, and as text.

/// `NT_GNU_BUILD_ID` of elf.h.
const BUILD_ID: u32 = 3;

/// The build id in a run of ELF notes: header of three words, name and description, each padded to four bytes (elf(5)).
pub fn build_id_of_notes(mut notes: &[u8]) -> Option<Vec<u8>> {
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    loop {
        let (name_len, len, kind) = (word(notes, 0)? as usize, word(notes, 4)? as usize, word(notes, 8)?);
        let begin = name_len.checked_next_multiple_of(4)?.checked_add(12)?;
        let end = begin.checked_add(len)?;
        if kind == BUILD_ID && notes.get(12..12 + name_len)? == b"GNU\0" {
            return notes.get(begin..end).map(<[u8]>::to_vec).filter(|id| !id.is_empty() && id.len() <= 64);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_give_their_build_id() {
        let note = |kind: u32, name: &[u8], desc: &[u8]| {
            let mut bytes = [name.len() as u32, desc.len() as u32, kind].map(u32::to_ne_bytes).concat();
            bytes.extend_from_slice(name);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(desc);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let notes = [note(1, b"Xen\0", b"abcde"), note(3, b"GNU\0", &[0xab, 0xcd])].concat();
        assert_eq!(build_id_of_notes(&notes).map(|id| hex(&id)).as_deref(), Some("abcd"));
        assert_eq!(build_id_of_notes(&notes[..notes.len() - 4]), None);
        assert_eq!(build_id_of_notes(&note(3, b"GNU\0", b"")), None);
        assert_eq!(build_id_of_notes(&[0xff; 40]), None);
        assert_eq!(build_id_of_notes(b""), None);
    }
}
