//! Where an image's parts come from: Debian's packages, a disk image, or the root of an unpacked or running system.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apt;
use crate::board::Board;
use crate::disk_image;
use crate::feature::{self, Features};
use crate::output;
use crate::packages::{self, Freshness, Package, Request};
use crate::recipe::Recipe;
use crate::tree::Tree;

/// What the archive is made from.
pub struct Sources {
    pub tree: Tree,
    /// Empty for what did not come as packages.
    pub packages: Vec<Package>,
    /// Whether what is made of it is worth keeping.
    pub keep: bool,
}

/// How packages are fetched.
#[derive(Debug, Clone, Copy)]
pub struct Fetching<'a> {
    pub mirror: Option<&'a str>,
    pub freshness: Freshness,
}

/// The one source that a command line names.
#[derive(Debug, Clone, Default)]
pub struct Named {
    pub image: Option<PathBuf>,
    pub root: Option<PathBuf>,
    pub suite: Option<String>,
}

impl Named {
    /// Puts what the command line names in the place of all that the recipe does.
    pub fn replace(self, recipe: &mut Recipe) -> Result<()> {
        let given = [self.image.is_some(), self.root.is_some(), self.suite.is_some()];
        match given.iter().filter(|given| **given).count() {
            0 => {}
            1 => {
                recipe.suite = self.suite.or_else(|| recipe.suite.take());
                recipe.from_image = self.image;
                recipe.from_root = self.root;
            }
            many => bail!(
                "{many} sources: an image is built from one of --from-image, --from-root and --from-debian"
            ),
        }
        if recipe.from_image.is_some() && recipe.from_root.is_some() {
            bail!("2 sources: an image is built from one of from-image and from-root");
        }
        Ok(())
    }
}

/// Opens what the recipe names.
pub fn open(recipe: &Recipe, board: &Board, features: &Features, fetching: Fetching) -> Result<Sources> {
    if let Some(image) = &recipe.from_image {
        return Ok(Sources {
            tree: disk_image::open(image, &packages::cache_directory()?.join("unpacked"))?,
            packages: Vec::new(),
            keep: true,
        });
    }
    if let Some(root) = &recipe.from_root {
        return Ok(Sources {
            tree: Tree::open(root)?,
            packages: Vec::new(),
            keep: false,
        });
    }
    from_packages(recipe, board, features, fetching)
}

fn from_packages(recipe: &Recipe, board: &Board, features: &Features, fetching: Fetching) -> Result<Sources> {
    let suite = recipe.suite.clone().unwrap_or_else(|| "trixie".to_owned());
    let request = Request {
        arch: board.arch,
        kernel_suite: recipe
            .kernel_suite
            .clone()
            .unwrap_or_else(|| format!("{suite}-backports")),
        suite,
        kernel_package: board.kernel_package.clone(),
        packages: feature::packages(features)
            .into_iter()
            .chain(output::packages(recipe))
            .collect(),
        firmware: output::firmware(recipe, board).into_iter().collect(),
    };
    let mirror = || {
        fetching
            .mirror
            .map_or_else(apt::system, |uri| Ok(apt::Source::given(uri)))
    };
    let unpacked = request.unpacked(&packages::cache_directory()?, fetching.freshness, mirror)?;
    Ok(Sources {
        tree: Tree::open(&unpacked.root)?,
        packages: unpacked.packages,
        keep: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_every_source_of_the_recipe() {
        let mut recipe = Recipe {
            from_image: Some("a.img".into()),
            suite: Some("bookworm".into()),
            ..Recipe::default()
        };
        let named = Named {
            root: Some("/".into()),
            ..Named::default()
        };
        named.replace(&mut recipe).unwrap();
        assert_eq!(
            (&recipe.from_image, &recipe.from_root),
            (&None, &Some("/".into()))
        );
        Named::default().replace(&mut recipe).unwrap();
        assert_eq!(recipe.from_root, Some("/".into()));
        let named = Named {
            suite: Some("trixie".into()),
            ..Named::default()
        };
        named.replace(&mut recipe).unwrap();
        assert_eq!(
            (recipe.from_root, recipe.suite.as_deref()),
            (None, Some("trixie"))
        );
    }

    #[test]
    fn two_sources_are_one_too_many() {
        let named = Named {
            root: Some("/".into()),
            image: Some("a.img".into()),
            suite: None,
        };
        let error = named.replace(&mut Recipe::default()).unwrap_err().to_string();
        assert!(error.starts_with("2 sources: "), "{error}");
        let mut recipe = Recipe {
            from_image: Some("a.img".into()),
            from_root: Some("/".into()),
            ..Recipe::default()
        };
        let error = Named::default().replace(&mut recipe).unwrap_err().to_string();
        assert!(error.ends_with("from-image and from-root"), "{error}");
    }
}
