//! Work on a disk that outlives the session it was begun in: in a process of its own, watched for as long as somebody is there.
//!
//! Files: `detached` that process and who watches it, `lock` that two of them never have one disk.

mod detached;
mod lock;

pub use detached::{Manner, Place, begin, keep_log, parsed, start, tell};
pub use lock::{Holder, Lock, Purpose, disown, holder, in_the_way, lines, none_is_held, slug, take, visit};
