//! What tests are made with: keys, disks, OS images. Everything is made by its generator when first needed; nothing
//! binary lies in the repository.

pub mod disk;
pub mod file_systems;
pub mod keys;
pub mod luks;
pub mod ruins;
pub mod system;
pub mod tang;
pub mod tiny;
