//! `ebrec compare`: is it worse than before?
//!
//! * [`metric`] reads the declarations of queries/metrics/, [`measure`] makes a small, additive measurement of a capture ([`count`] goes through
//!   the rows, [`sketch`] keeps distributions), [`baseline`] keeps measurements in a file.
//! * [`bootstrap`] (with [`random`]) and [`stats`] are the statistics, [`judge`] applies them to two sides of measurements, [`policy`] decides what fails.
//! * [`output`] and [`explain`] tell it, [`flame`] draws the difference of two profiles.
//!
//! Captures are measured one after the other, so that memory doesn't grow with their number.

pub mod baseline;
pub mod bootstrap;
pub mod command;
pub mod count;
pub mod explain;
pub mod flame;
pub mod judge;
pub mod measure;
pub mod metric;
pub mod output;
pub mod policy;
pub mod random;
pub mod reference;
pub mod sketch;
pub mod stats;
