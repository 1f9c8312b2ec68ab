//! The end of a recording: the capture becomes whole and gets its name.

use super::{Store, disk, durable};
use anyhow::{Context, Result};
use ebrec_format::capture::{LOOSE, PACK};
use ebrec_format::events::session::Loss;
use ebrec_format::kind::{self, NoResolver};
use ebrec_format::manifest::{MANIFEST, Manifest};
use ebrec_format::table::batch_of;
use ebrec_format::wire::NULL32;
use ebrec_format::{events, segment};

impl Store {
    /// Makes the capture whole: one segment of what each table still has loose, the manifest, the final name. Whenever it ends before
    /// that, [`Store::partial`] holds all that was sealed.
    pub fn finish(mut self, manifest: &mut Manifest) -> Result<u64> {
        let first_own = self.tables.iter().position(|file| events::probe_of(file.table.name).is_none()).unwrap_or(self.tables.len());
        for index in 0..self.tables.len() {
            if index == first_own {
                self.tell_refused(manifest)?;
            }
            if self.gauge.is_aborted() {
                return Err(disk::aborted());
            }
            self.seal_rest(index)?;
        }
        let mut states = self.table_states();
        for (name, state) in &mut states {
            state.lost = manifest.tables.get(name).map_or(0, |t| t.lost);
        }
        manifest.tables = states;
        let json = serde_json::to_vec_pretty(&manifest).context("cannot print the manifest")?;
        let pack = self.disk.end()?;
        let (loose, first_page) = (self.partial.join(LOOSE), self.partial.join(MANIFEST));
        let Some(mut pack) = pack else {
            let mut group = durable::Group::default();
            group.write(&first_page, &json).and_then(|()| group.name()).context("cannot write the manifest")?;
            durable::remove(&loose);
            let old = durable::publish(&self.partial, &self.output, self.force)?;
            old.into_iter().chain(self.aside).for_each(|path| durable::remove(&path));
            return Ok(self.sealed);
        };
        pack.append(MANIFEST, &json).context("cannot write the manifest")?;
        let size = pack.finish().and_then(|file| file.metadata()).context("cannot end the capture")?.len();
        if self.gauge.is_aborted() {
            return Err(disk::aborted());
        }
        // The pack has all of it now, and says so itself: whoever reads the directory misses nothing.
        durable::remove(&loose);
        durable::remove(&first_page);
        let old = durable::publish(&self.partial.join(PACK), &self.output, self.force)?;
        old.into_iter().chain([self.partial]).chain(self.aside).for_each(|path| durable::remove(&path));
        Ok(size)
    }

    /// Everything of a table that is not in the pack yet becomes one entry of it.
    fn seal_rest(&mut self, index: usize) -> Result<()> {
        if !self.tables[index].loose.is_empty() {
            self.seal(index)?;
            self.merge(index, 0, true)?;
        }
        for segment in self.tables[index].seal()? {
            let number = self.number(index);
            if self.has_room(index, &segment) {
                self.pack(index, (number, number), segment.bytes)?;
            }
        }
        if self.present[index] && self.tables[index].packed == 0 {
            let bytes = segment::encode(self.tables[index].table, &[])?;
            self.pack(index, (0, 0), bytes)?;
        }
        Ok(())
    }

    /// Rows that had no room are lost, and the capture says so.
    fn tell_refused(&mut self, manifest: &mut Manifest) -> Result<()> {
        let Some(loss) = self.tables.iter().position(|file| file.table.name == "loss") else { return Ok(()) };
        let ended = (manifest.ended_ns - manifest.boot_to_utc_ns) as u64;
        let mut rows = Vec::new();
        for (file, &lost) in self.tables.iter().zip(&self.refused).filter(|(_, lost)| **lost > 0) {
            manifest.tables.entry(file.table.name.to_owned()).or_default().lost += lost;
            let (table_name, reason) = (Some(file.table.name.to_owned()), Some("max-size".to_owned()));
            rows.push(Loss { ts: ended, end_ts: ended, cpu: NULL32, table_name, reason, lost });
        }
        let mut context = kind::Context { boot_to_utc_ns: manifest.boot_to_utc_ns, resolver: &mut NoResolver };
        self.write(loss, &batch_of(&rows, &mut context))
    }
}
