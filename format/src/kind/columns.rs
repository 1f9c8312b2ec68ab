//! The two collectors that nearly all builders consist of.

use arrow::array::{DictionaryArray, Int32Array, PrimitiveArray, StringBuilder};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type};
use std::collections::HashMap;
use std::sync::Arc;

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

/// Distinct values that a column remembers from batch to batch.
pub(super) const MOST_VALUES: usize = 4096;

/// The number of each value, in order of appearance, and the numbers row by row.
pub(super) struct Codes<K> {
    // Not the standard hasher: this is looked up several times per event.
    codes: HashMap<K, i32, ahash::RandomState>,
    rows: Vec<i32>,
    last: Option<(K, i32)>,
}

impl<K> Default for Codes<K> {
    fn default() -> Self {
        Codes { codes: HashMap::default(), rows: Vec::new(), last: None }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Codes<K> {
    /// Adds a row; `true` if its value is new, and so has the next number.
    #[inline]
    pub(super) fn push(&mut self, key: K) -> bool {
        if let Some((last, code)) = self.last
            && last == key
        {
            self.rows.push(code);
            return false;
        }
        let next = self.codes.len() as i32;
        let code = *self.codes.entry(key).or_insert(next);
        self.last = Some((key, code));
        self.rows.push(code);
        code == next
    }

    pub(super) fn take_rows(&mut self) -> Int32Array {
        // The next batch will be as large: growing again from nothing would copy it once more.
        let fresh = Vec::with_capacity(self.rows.len());
        Int32Array::from(std::mem::replace(&mut self.rows, fresh))
    }
}

/// Values by number. A column of them reads like one of the values.
pub(super) fn coded(rows: Int32Array, values: arrow::array::ArrayRef) -> DictionaryArray<Int32Type> {
    match DictionaryArray::try_new(rows, values) {
        Ok(array) => array,
        // Numbers are given to values as they are added.
        Err(error) => unreachable!("{error}"),
    }
}

/// Strings of few distinct values: each distinct wire value is turned into text once.
pub struct Interned<K> {
    codes: Codes<K>,
    texts: Vec<Option<String>>,
}

impl<K> Default for Interned<K> {
    fn default() -> Self {
        Interned { codes: Codes::default(), texts: Vec::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Interned<K> {
    #[inline]
    pub(super) fn push(&mut self, key: K, text: impl FnOnce() -> Option<String>) {
        if self.codes.push(key) {
            self.texts.push(text());
        }
    }

    pub(super) fn take(&mut self) -> DictionaryArray<Int32Type> {
        let mut texts = StringBuilder::new();
        self.texts.iter().for_each(|text| texts.append_option(text.as_deref()));
        let rows = self.codes.take_rows();
        // What was seen will be seen again; but a host that invents names all the time must not fill the memory.
        if self.texts.len() > MOST_VALUES {
            *self = Interned::default();
        }
        coded(rows, Arc::new(texts.finish()))
    }
}

impl<K> std::fmt::Debug for Interned<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interned({} values)", self.texts.len())
    }
}
