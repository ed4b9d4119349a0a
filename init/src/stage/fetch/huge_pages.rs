//! Large pages for the image in memory, while it is written.
//!
//! The kernel gives memory files small pages unless told otherwise, machine-wide (`Documentation/admin-guide/mm/transhuge.rst`,
//! "Hugepages in tmpfs/shmem"). An image of 100 MB is 25,600 of them, each found, entered and later looked up by itself. The
//! system that is started afterwards finds the setting as the kernel had it.

use crate::report::Reporter;
use std::fs;
use std::path::{Path, PathBuf};

const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Puts the setting back when dropped.
pub(super) struct HugePages<'r> {
    setting: PathBuf,
    /// What it was; `None` where it could not be read or not be changed.
    before: Option<String>,
    reporter: &'r Reporter,
}

impl<'r> HugePages<'r> {
    /// Where the kernel has no such setting, nothing happens.
    pub(super) fn wanted(reporter: &'r Reporter) -> HugePages<'r> {
        HugePages::at(Path::new(SETTING), reporter)
    }

    fn at(setting: &Path, reporter: &'r Reporter) -> HugePages<'r> {
        let chosen = fs::read_to_string(setting).ok().and_then(|text| chosen(&text));
        // Whoever decided something decided it for a reason.
        let before = chosen.filter(|word| word == "never" && fs::write(setting, "always").is_ok());
        HugePages {
            setting: setting.to_owned(),
            before,
            reporter,
        }
    }
}

impl Drop for HugePages<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            self.reporter
                .ignore("put shmem_enabled back", fs::write(&self.setting, before));
        }
    }
}

/// The word in brackets: `always [never] deny`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reporter, Sink};
    use lifeboot_contract::control::Report;
    use lifeboot_contract::event::Event;
    use std::sync::Arc;

    struct Nobody;

    impl Sink for Nobody {
        fn event(&self, _: Event) {}
        fn report(&self, _: Report) {}
    }

    fn after(text: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let setting = directory.path().join("shmem_enabled");
        fs::write(&setting, text).unwrap();
        let reporter = Reporter::new(Arc::new(Nobody));
        let guard = HugePages::at(&setting, &reporter);
        let during = fs::read_to_string(&setting).unwrap();
        drop(guard);
        (during, fs::read_to_string(&setting).unwrap())
    }

    #[test]
    fn the_kernels_default_is_changed_and_put_back() {
        let (during, after) = after("always within_size advise [never] deny force\n");
        assert_eq!((during.as_str(), after.as_str()), ("always", "never"));
    }

    #[test]
    fn what_somebody_chose_stays() {
        let text = "always within_size [advise] never deny force\n";
        assert_eq!(after(text), (text.to_owned(), text.to_owned()));
    }

    #[test]
    fn a_kernel_without_the_setting_is_left_alone() {
        let reporter = Reporter::new(Arc::new(Nobody));
        let guard = HugePages::at(Path::new("/nowhere/shmem_enabled"), &reporter);
        assert_eq!(guard.before, None);
    }
}
