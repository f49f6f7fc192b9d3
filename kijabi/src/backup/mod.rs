//! `kijabi backup`, `kijabi import` and `kijabi export`: from flags to the store's backups, and
//! from results to text.
//!
//! Owns: what is printed. Must not know: files and formats. A newcomer's trap: results go to
//! standard output in etcdutl's forms, because scripts read them; everything else goes to standard
//! error.

pub(crate) mod flags;
mod print;

use kijabi_server::backup::{
    EndpointHash, HashCheck, Import, Restored, SnapshotFile, hash_of_endpoint, save,
};

use crate::component;
use flags::{Backup, Format};

/// Runs `kijabi backup`.
pub(crate) fn backup(command: Backup) -> anyhow::Result<()> {
    match command {
        Backup::Save(args) => component::run(|_| async move {
            let endpoint = args.connection.endpoint()?;
            let saved = save(&endpoint, &args.file).await?;
            print::status(&saved.status, args.output.write_out)
        }),
        Backup::Status(args) => {
            let file = SnapshotFile::open(&args.file, HashCheck::IfThere)?;
            print::status(&file.status()?, args.output.write_out)
        }
        Backup::Restore(args) => {
            let member = args.target.member(args.bump_revision, args.mark_compacted)?;
            let path = args.file.clone();
            let import = Import { path, wal_dir: None, check: args.target.check() };
            anyhow::ensure!(
                !args.file.is_dir(),
                "{} is a folder: use kijabi import",
                args.file.display()
            );
            restored(&member.make(&import.open()?)?, &member.data_dir, args.output.write_out)
        }
        Backup::Hash(args) => hash(args),
    }
}

/// Runs `kijabi import`.
pub(crate) fn import(args: &flags::Import) -> anyhow::Result<()> {
    let member = args.target.member(args.bump_revision, args.mark_compacted)?;
    let import = Import {
        path: args.source.clone(),
        wal_dir: args.source_wal_dir.clone(),
        check: args.target.check(),
    };
    restored(&member.make(&import.open()?)?, &member.data_dir, args.output.write_out)
}

/// Runs `kijabi export`.
pub(crate) fn export(args: flags::Export) -> anyhow::Result<()> {
    let format = args.output.write_out;
    if let Some(data_dir) = &args.data_dir {
        let saved = kijabi_server::backup::export(data_dir, args.wal_dir.clone(), &args.file)?;
        return print::status(&saved.status, format);
    }
    component::run(|_| async move {
        let endpoint = args.connection.endpoint()?;
        let saved = save(&endpoint, &args.file).await?;
        print::status(&saved.status, format)
    })
}

fn restored(restored: &Restored, data_dir: &std::path::Path, format: Format) -> anyhow::Result<()> {
    if let Some(torn) = &restored.torn {
        tracing::warn!(at = torn, "etcd's log breaks off in the middle of a record, as by a crash");
    }
    print::restored(restored, data_dir, format)
}

fn hash(args: flags::Hash) -> anyhow::Result<()> {
    let format = args.output.write_out;
    if let Some(file) = &args.file {
        let hashed = SnapshotFile::open(file, HashCheck::IfThere)?.hash_kv(args.rev)?;
        let hash = EndpointHash {
            hash: hashed.hash,
            revision: hashed.revision,
            compacted: hashed.compacted,
        };
        return print::hashes(&[(file.display().to_string(), hash)], format);
    }
    component::run(|_| async move {
        let mut hashes = Vec::new();
        for endpoint in args.connection.endpoints()? {
            let hash = hash_of_endpoint(&endpoint, args.rev).await?;
            hashes.push((endpoint.url, hash));
        }
        print::hashes(&hashes, format)
    })
}
