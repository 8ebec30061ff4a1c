//! Which wheels run: compatibility tags (PEP 425, PEP 600), in the order in which `packaging.tags` prefers them.

/// Minor versions of glibc with names of their own (PEP 513, 571, 599).
const NAMED: [(u32, &str); 3] = [(17, "manylinux2014"), (12, "manylinux2010"), (5, "manylinux1")];
/// Oldest glibc of any manylinux tag.
const OLDEST_GLIBC: u32 = 5;

/// Tags that an interpreter takes, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags(Vec<String>);

impl Tags {
    /// For CPython 3.`minor` with glibc 2.`glibc` on x86-64.
    #[must_use]
    pub fn cpython(minor: u32, glibc: u32) -> Self {
        let mut platforms = Vec::new();
        for version in (OLDEST_GLIBC..=glibc).rev() {
            platforms.push(format!("manylinux_2_{version}_x86_64"));
            if let Some((_, name)) = NAMED.iter().find(|(minor, _)| *minor == version) {
                platforms.push(format!("{name}_x86_64"));
            }
        }
        platforms.push("linux_x86_64".to_owned());
        let mut tags = Vec::new();
        let mut add = |python: &str, abi: &str| {
            tags.extend(platforms.iter().map(|platform| format!("{python}-{abi}-{platform}")));
        };
        let own = format!("cp3{minor}");
        add(&own, &own);
        add(&own, "abi3");
        add(&own, "none");
        for older in (2..minor).rev() {
            add(&format!("cp3{older}"), "abi3");
        }
        let generic: Vec<String> = std::iter::once(format!("py3{minor}"))
            .chain(std::iter::once("py3".to_owned()))
            .chain((0..minor).rev().map(|older| format!("py3{older}")))
            .collect();
        for python in &generic {
            add(python, "none");
        }
        tags.push(format!("{own}-none-any"));
        tags.extend(generic.iter().map(|python| format!("{python}-none-any")));
        Tags(tags)
    }

    /// How good a wheel's tags are (`cp39.cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64`): 0 is best; `None`
    /// if it does not run.
    #[must_use]
    pub fn rank(&self, compressed: &str) -> Option<usize> {
        let [pythons, abis, platforms] = compressed.splitn(3, '-').collect::<Vec<_>>()[..] else {
            return None;
        };
        let all = pythons.split('.').flat_map(|python| {
            abis.split('.').flat_map(move |abi| {
                platforms.split('.').map(move |platform| format!("{python}-{abi}-{platform}"))
            })
        });
        all.filter_map(|tag| self.0.iter().position(|known| *known == tag)).min()
    }

    /// All tags, best first.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.0
    }
}
