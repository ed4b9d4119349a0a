//! Who may log in to an image by ssh: the key files a person gives, and whether anybody is left when there are none.
//!
//! An image for a serial console alone needs no key, so one that lets nobody in is built; but far away from the machine nothing else
//! would tell, so the build ends with saying it.

use std::path::PathBuf;

use anyhow::Result;
use lifeboot_contract::authorized::List;
use lifeboot_contract::config::Config;
use lifeboot_contract::image;
use lifeboot_contract::plan::{BakedKeys, Plan};

use crate::public;
use crate::recipe::Recipe;

/// The key files of the recipe, by their place in the image.
pub fn keys(recipe: &Recipe) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut keys = Vec::new();
    for (path, place, list) in files(recipe) {
        if let Some(path) = path {
            keys.push((place, public::login_keys(path, list)?.into_bytes()));
        }
    }
    Ok(keys)
}

fn files(recipe: &Recipe) -> [(Option<&PathBuf>, &'static str, List); 4] {
    [
        (
            recipe.authorized_keys.as_ref(),
            image::AUTHORIZED_KEYS,
            List::Root,
        ),
        (recipe.unlock_keys.as_ref(), image::UNLOCK_KEYS, List::Role),
        (recipe.status_keys.as_ref(), image::STATUS_KEYS, List::Role),
        (
            recipe.user_ca.as_ref(),
            image::USER_AUTHORITIES,
            List::Authorities,
        ),
    ]
}

/// What to say about an image that nobody can log in to.
pub fn warning(recipe: &Recipe, config: Option<&[u8]>) -> Option<&'static str> {
    // Each of these files has a key in it; and the medium itself says where to look for its key partition.
    if recipe.disk.is_some() || files(recipe).iter().any(|(path, ..)| path.is_some()) {
        return None;
    }
    let config = config.and_then(|text| Config::parse(&String::from_utf8_lossy(text)).ok());
    let config = config.unwrap_or_default();
    let words = recipe.cmdline.as_deref().unwrap_or_default();
    let plan = Plan::make(words, &config, Default::default(), BakedKeys::default());
    let reached = plan.ssh.lets_somebody_in() || plan.key_partition.is_some();
    (!reached).then_some(
        "WARNING: NOBODY CAN LOG IN TO THIS IMAGE BY SSH: it has no key, no authority and no key partition. --authorized-keys \
         FILE puts keys into it; without, there are its consoles, and lifeboot.ssh-key= on the kernel's command line",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_in_is_enough_and_none_is_warned_of() {
        let key = format!(
            "lifeboot.ssh-status-key=\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}\"",
            "A".repeat(43)
        );
        let said = |words: Option<&str>, config: Option<&str>| {
            let recipe = Recipe {
                cmdline: words.map(str::to_owned),
                ..Recipe::default()
            };
            warning(&recipe, config.map(str::as_bytes)).is_some()
        };
        let partition = "lifeboot.key-partition=LABEL=LIFEBOOT";
        let off = "lifeboot.key-partition = \"off\"";
        for (words, config, warned) in [
            (None, None, true),
            (Some("quiet"), Some("lifeboot.ssh-port = 22"), true),
            (Some(key.as_str()), None, false),
            (Some(partition), None, false),
            (None, Some("lifeboot.key-partition = \"LABEL=LIFEBOOT\""), false),
            (None, Some(off), true),
            (
                Some(partition),
                Some("locked = [\"lifeboot.key-partition\"]"),
                true,
            ),
        ] {
            assert_eq!(said(words, config), warned, "{words:?} {config:?}");
        }
        let given = |recipe: Recipe| warning(&recipe, None).is_some();
        let path = || Some(PathBuf::from("x"));
        assert!(!given(Recipe {
            user_ca: path(),
            ..Recipe::default()
        }));
        assert!(!given(Recipe {
            disk: path(),
            ..Recipe::default()
        }));
        assert!(given(Recipe {
            ca: path().into_iter().collect(),
            ..Recipe::default()
        }));
    }
}
