//! The CPU quota of a container.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The CPU quota of this process's control group, in cores; `None` where there is none.
///
/// Linux throttles a container that has used up its quota until the next period, whatever the priority of its threads.
/// [`std::thread::available_parallelism`] rounds the quota to whole cores.
pub fn cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest_quota(Path::new("/sys/fs/cgroup"), &groups)
}

/// The lowest quota of the groups that `/proc/self/cgroup` names and of their ancestors.
fn lowest_quota(root: &Path, groups: &str) -> Option<f64> {
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let group = group.trim_start_matches('/');
        let (mount, read): (PathBuf, fn(&Path) -> Option<f64>) = match controllers {
            "" => (root.to_owned(), quota_v2),
            _ if controllers.split(',').any(|name| name == "cpu") => (root.join("cpu"), quota_v1),
            _ => return None,
        };
        // Inside a container the path may be that of the host; the mount itself is then the group of the container.
        let quotas = Path::new(group).ancestors().filter_map(|group| read(&mount.join(group)));
        quotas.min_by(f64::total_cmp)
    });
    quotas.min_by(f64::total_cmp)
}

/// cgroup v2: the quota (or `max`) and the period, in microseconds.
fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// cgroup v1, where a quota of -1 means none.
fn quota_v1(group: &Path) -> Option<f64> {
    let read = |name| fs::read_to_string(group.join(name)).ok();
    ratio(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_cpu_quota_of_a_cgroup_and_its_ancestors_applies() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("cpu.max", "max 100000\n");
        write("pod/cpu.max", "150000 100000\n");
        write("pod/one/cpu.max", "200000 100000\n");
        write("pod/half/cpu.max", "25000 50000\n");
        write("cpu/cpu.cfs_quota_us", "-1\n");
        write("cpu/cpu.cfs_period_us", "100000\n");
        write("cpu/docker/cpu.cfs_quota_us", "300000\n");
        write("cpu/docker/cpu.cfs_period_us", "100000\n");
        let rows = [
            ("0::/\n", None),
            ("0::/pod/one\n", Some(1.5)),
            ("0::/pod/half\n", Some(0.5)),
            ("0::/not/here\n", None),
            ("9:name=systemd:/pod\n4:memory:/pod\n", None),
            ("2:cpu,cpuacct:/docker\n", Some(3.0)),
            ("1:cpu:/docker\n0::/pod/half\n", Some(0.5)),
            ("2:cpuacct,cpu:/elsewhere\n", None),
            ("", None),
            ("garbage", None),
        ];
        for (groups, quota) in rows {
            assert_eq!(lowest_quota(root.path(), groups), quota, "{groups:?}");
        }
    }
}
