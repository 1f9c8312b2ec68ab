//! The two collectors that nearly all builders consist of.

use arrow::array::{PrimitiveArray, StringArray, StringBuilder};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::ArrowPrimitiveType;
use std::collections::HashMap;

/// Fixed-width numbers, with nulls kept only if there are any.
pub struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    /// Rows that are null; empty as long as none is.
    nulls: Vec<usize>,
}

impl<T: ArrowPrimitiveType> Default for Numbers<T> {
    fn default() -> Self {
        Numbers { values: Vec::new(), nulls: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    #[inline]
    pub(super) fn push(&mut self, value: T::Native) {
        self.values.push(value);
    }

    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.values.len());
        self.values.push(T::Native::default());
    }

    #[inline]
    pub(super) fn push_option(&mut self, value: Option<T::Native>) {
        match value {
            Some(value) => self.push(value),
            None => self.push_null(),
        }
    }

    pub(super) fn take(&mut self) -> PrimitiveArray<T> {
        // The next batch will be as large: growing again from nothing would copy it once more.
        let fresh = Vec::with_capacity(self.values.len());
        let values = std::mem::replace(&mut self.values, fresh);
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = vec![true; values.len()];
            self.nulls.drain(..).for_each(|row| valid[row] = false);
            NullBuffer::from(valid)
        });
        PrimitiveArray::new(ScalarBuffer::from(values), nulls)
    }
}

/// Distinct texts that a column remembers from batch to batch.
const MOST_TEXTS: usize = 4096;

/// Strings of few distinct values: each distinct wire value is turned into text once.
pub struct Interned<K> {
    // Not the standard hasher: this is looked up several times per event.
    codes: HashMap<K, u32, ahash::RandomState>,
    texts: Vec<Option<String>>,
    rows: Vec<u32>,
    last: Option<(K, u32)>,
}

impl<K> Default for Interned<K> {
    fn default() -> Self {
        Interned { codes: HashMap::default(), texts: Vec::new(), rows: Vec::new(), last: None }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Interned<K> {
    #[inline]
    pub(super) fn push(&mut self, key: K, text: impl FnOnce() -> Option<String>) {
        let code = match self.last {
            Some((last, code)) if last == key => code,
            _ => {
                let texts = &mut self.texts;
                let code = *self.codes.entry(key).or_insert_with(|| {
                    texts.push(text());
                    texts.len() as u32 - 1
                });
                self.last = Some((key, code));
                code
            }
        };
        self.rows.push(code);
    }

    pub(super) fn take(&mut self) -> StringArray {
        let bytes = self.rows.iter().map(|&code| self.texts[code as usize].as_ref().map_or(0, String::len)).sum();
        let mut out = StringBuilder::with_capacity(self.rows.len(), bytes);
        for &code in &self.rows {
            out.append_option(self.texts[code as usize].as_deref());
        }
        self.rows.clear();
        // What was seen will be seen again; but a host that invents names all the time must not fill the memory.
        if self.texts.len() > MOST_TEXTS {
            *self = Interned::default();
        }
        out.finish()
    }
}

impl<K> std::fmt::Debug for Interned<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interned({} rows)", self.rows.len())
    }
}
