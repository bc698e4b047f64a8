//! Which versions of the peers were built: what the workspace's Cargo.lock says.

const LOCK: &str = include_str!("../../../Cargo.lock");

/// The version of a dependency of this package.
pub fn of(name: &str) -> &'static str {
    // A name alone where there is one version in the workspace, else the version behind it.
    let ours = package(LOCK, env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let named = ours.lines().map(|line| line.trim_matches([' ', '"', ','])).find_map(|line| line.strip_prefix(name));
    match named.map(str::trim_start) {
        Some("") => field(package(LOCK, name, ""), "version"),
        Some(version) => version,
        None => panic!("{name} is no dependency"),
    }
}

/// The part of the file on a package of a version that begins so.
fn package(lock: &'static str, name: &str, version: &str) -> &'static str {
    let is_it =
        |package: &&'static str| field(package, "name") == name && field(package, "version").starts_with(version);
    lock.split("[[package]]").skip(1).find(is_it).unwrap_or_else(|| panic!("Cargo.lock has no {name} {version}"))
}

fn field(package: &'static str, field: &str) -> &'static str {
    let value = |line: &'static str| line.strip_prefix(field)?.strip_prefix(" = \"")?.strip_suffix('"');
    package.lines().find_map(value).unwrap_or_else(|| panic!("a package of Cargo.lock has no {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manifest fixes the peers, so it knows them, too.
    #[test]
    fn versions_are_those_that_the_manifest_fixes() {
        let manifest = include_str!("../Cargo.toml");
        let fixed: Vec<(&str, &str)> = manifest
            .lines()
            .filter_map(|line| {
                let (name, version) = line.split_once(" = ")?;
                Some((name, version[version.find("\"=")? + 2..].split('"').next()?))
            })
            .collect();
        assert_eq!(fixed.len(), 5);
        for (name, version) in fixed {
            assert_eq!(of(name), version, "{name}");
        }
    }

    #[test]
    fn of_two_versions_it_is_the_one_that_is_built() {
        assert!(LOCK.matches("name = \"hashbrown\"").count() > 1, "choose another package");
        assert!(of("hashbrown").starts_with("0.16."));
    }
}
