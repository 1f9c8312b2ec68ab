//! What is known about the columns that more than one kind has.

use super::{Encoding, KindInfo};
use crate::table::timestamp_type;
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// An identity that other rows join on.
pub(super) const PROCESS_ID: KindInfo =
    KindInfo { name: "ProcessId", arrow: || DataType::Int64, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static TIMESTAMP: KindInfo =
    KindInfo { name: "Timestamp", arrow: timestamp_type, unit: Some("ns"), nullable: true, encoding: Encoding::Delta };
pub(super) static SORTED_TIMESTAMP: KindInfo =
    KindInfo { name: "Timestamp", arrow: timestamp_type, unit: Some("ns"), nullable: false, encoding: Encoding::Delta };
pub(super) const COMM: KindInfo =
    KindInfo { name: "Comm", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static FLAG: KindInfo =
    KindInfo { name: "Flag", arrow: || DataType::Boolean, unit: None, nullable: true, encoding: Encoding::Plain };
pub(super) const CPU: KindInfo =
    KindInfo { name: "Cpu", arrow: || DataType::Int32, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) const PID: KindInfo =
    KindInfo { name: "Pid", arrow: || DataType::Int32, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) const TID: KindInfo =
    KindInfo { name: "Tid", arrow: || DataType::Int32, unit: None, nullable: true, encoding: Encoding::Dictionary };
// Where the kernel always knows, a column that can't be null is cheaper to write and to read.
pub(super) static KNOWN_CPU: KindInfo = KindInfo { nullable: false, ..CPU };
pub(super) static KNOWN_PID: KindInfo = KindInfo { nullable: false, ..PID };
pub(super) static KNOWN_TID: KindInfo = KindInfo { nullable: false, ..TID };
pub(super) static KNOWN_COMM: KindInfo = KindInfo { nullable: false, ..COMM };
pub(super) static KNOWN_PROCESS_ID: KindInfo = KindInfo { nullable: false, ..PROCESS_ID };
pub(super) static PORT: KindInfo =
    KindInfo { name: "Port", arrow: || DataType::Int32, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static IP_VERSION: KindInfo =
    KindInfo { name: "IpVersion", arrow: || DataType::Int32, unit: None, nullable: false, encoding: Encoding::Dictionary };
pub(super) static NETNS: KindInfo =
    KindInfo { name: "Inode", arrow: || DataType::Int64, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static CONN_ID: KindInfo =
    KindInfo { name: "ConnId", arrow: || DataType::Int64, unit: None, nullable: true, encoding: Encoding::Delta };
pub(super) static IP_ADDRESS: KindInfo =
    KindInfo { name: "IpAddress", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static PATH: KindInfo =
    KindInfo { name: "Path", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static FS: KindInfo =
    KindInfo { name: "FileSystem", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static DEVICE: KindInfo =
    KindInfo { name: "Device", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static INODE: KindInfo =
    KindInfo { name: "Inode", arrow: || DataType::Int64, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static STRINGS: KindInfo =
    KindInfo { name: "Strings", arrow: strings_type, unit: None, nullable: true, encoding: Encoding::Dictionary };
pub(super) static TEXT: KindInfo =
    KindInfo { name: "Text", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };

pub(super) static SYSCALL_NR: KindInfo =
    KindInfo { name: "SyscallNr", arrow: || DataType::Int32, unit: None, nullable: true, encoding: Encoding::Dictionary };

pub(super) fn strings_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}
