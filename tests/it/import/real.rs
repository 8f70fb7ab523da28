//! What Debian's packages are told to run by their own unit files: imported as they are shipped, but for a port and a place, and running.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{judged, ready, said};
use crate::harness::{World, wait_for};

/// Where packages put their units.
const SHIPPED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// True if a package brought this unit; tests/run installs those that must be there.
fn is_shipped(unit: &str) -> bool {
    let there = SHIPPED.iter().any(|dir| Path::new(dir).join(unit).exists());
    if !there {
        eprintln!("SKIPPED: no package brought {unit}");
    }
    there
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a daemon answers, once it does.
fn answer(port: u16, question: &str, wanted: &str) {
    wait_for(wanted, || {
        let text = ask(port, question).map_err(|error| error.to_string())?;
        if text.contains(wanted) { Ok(()) } else { Err(text) }
    });
}

fn ask(port: u16, question: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(question.as_bytes())?;
    let mut bytes = [0; 4096];
    let read = stream.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

/// A drop-in for a unit, which any user of any machine can run.
fn drop_in(dir: &Path, unit: &str, text: &str) {
    let dir = dir.join(format!("{unit}.d"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("test.conf"), format!("[Service]\nUser=\nGroup=\nRuntimeDirectory=\nLimitNOFILE=\n{text}"))
        .unwrap();
}

#[test]
fn the_units_that_packages_ship_run_as_they_are_imported() {
    let mut world = World::new();
    world.start();
    let (root, over) = (world.root().to_path_buf(), world.root().join("over"));
    let place = root.display();
    let (mut units, mut asked) = (Vec::new(), Vec::new());
    if is_shipped("redis-server.service") {
        let port = free_port();
        let command = format!("/usr/bin/redis-server --port {port} --dir {place} --supervised systemd --daemonize no");
        drop_in(&over, "redis-server.service", &format!("ExecStart=\nExecStart={command}\n"));
        units.push("redis-server");
        asked.push((port, "PING\r\n", "+PONG"));
    }
    if is_shipped("nginx.service") {
        // It forks, and says by a file which process it is.
        let port = free_port();
        let conf = format!(
            "pid {place}/nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 served; }} }} }}\n"
        );
        fs::write(root.join("nginx.conf"), conf).unwrap();
        let stop = format!("-/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile {place}/nginx.pid");
        let text = format!(
            "PIDFile={place}/nginx.pid\nExecStartPre=\nExecStartPre=/usr/sbin/nginx -t -q -c {place}/nginx.conf\n\
             ExecStart=\nExecStart=/usr/sbin/nginx -c {place}/nginx.conf -g 'daemon on; master_process on;'\n\
             ExecStop=\nExecStop={stop}\n"
        );
        drop_in(&over, "nginx.service", &text);
        units.push("nginx");
        asked.push((port, "GET / HTTP/1.0\r\n\r\n", "served"));
    }
    if is_shipped("prometheus.service") {
        let port = free_port();
        let args = format!(
            "ARGS=\"--web.listen-address=127.0.0.1:{port} --storage.tsdb.path={place}/tsdb --config.file={place}/p.yml\"\n"
        );
        fs::write(root.join("prometheus.env"), args).unwrap();
        fs::write(root.join("p.yml"), "{}\n").unwrap();
        drop_in(
            &over,
            "prometheus.service",
            &format!("LimitMEMLOCK=\nEnvironmentFile=\nEnvironmentFile={place}/prometheus.env\n"),
        );
        units.push("prometheus");
        asked.push((port, "GET /-/healthy HTTP/1.0\r\n\r\n", "200 OK"));
    }
    if units.is_empty() {
        return;
    }
    let over = over.display().to_string();
    let mut words = vec!["import", "systemd", "--apply", "--search", &over];
    words.extend(SHIPPED.iter().flat_map(|dir| ["--search", *dir]));
    words.extend(&units);
    let done = world.command(&words);
    assert!(done.status.success(), "{}", said(&done));
    ready(&world, &units);
    for (port, question, wanted) in &asked {
        answer(*port, question, wanted);
    }
    // Whoever forks away is ended all the same.
    for unit in &units {
        let gone = world.command(&["delete", "app", unit, "--wait"]);
        assert!(gone.status.success(), "{}", said(&gone));
    }
    for (port, ..) in asked {
        wait_for("nobody to listen", || match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => Err(format!("somebody listens on {port}")),
            Err(_) => Ok(()),
        });
    }
}

#[test]
fn whatever_systemd_lists_as_a_setting_has_its_line_in_the_documentation() {
    let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].map(PathBuf::from);
    let systemd = systemd.iter().find(|path| path.exists()).expect("tests/run installs systemd");
    let listed = judged(Command::new(systemd).arg("--dump-configuration-items"));
    let page = fs::read_to_string("docs/import-settings.md").unwrap();
    let page = page.split("\n## ").find(|part| part.starts_with("systemd")).unwrap();
    let (mut section, mut missing, mut count) = ("", Vec::new(), 0);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for line in text.lines() {
        section = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or(section);
        let Some((name, _)) = line.split_once('=') else { continue };
        if ["Unit", "Service", "Timer", "Install"].contains(&section) {
            count += 1;
            let mut parts = page.split("\n### ");
            let mine = parts.find(|part| part.starts_with(&format!("[{section}]"))).unwrap_or_default();
            if !mine.contains(&format!("`{name}`")) {
                missing.push(format!("{section}.{name}"));
            }
        }
    }
    assert!(count > 300 && missing.is_empty(), "{count}: {missing:?}");
}

/// Podman's own reader of quadlets, which came with its version 4.4: the machine's, or what tests/run has fetched.
fn quadlet() -> Option<PathBuf> {
    let fetched = std::env::var_os("APPM_QUADLET").map(PathBuf::from);
    let usual = ["/usr/libexec/podman/quadlet", "target/quadlet"].map(PathBuf::from);
    let found = fetched.into_iter().chain(usual).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: this podman has no quadlet, and APPM_QUADLET names none");
    }
    found
}

#[test]
fn quadlets_are_taken_by_podman_as_they_are_meant() {
    let Some(quadlet) = quadlet() else { return };
    let world = World::new();
    let dir = world.root().join("quadlet");
    let words = ["export", "quadlet", "-f", "manifests/app-container.yaml", "--dir", dir.to_str().unwrap()];
    let done = world.command(&words);
    assert!(done.status.success(), "{}", said(&done));
    let read = judged(Command::new(quadlet).arg("-dryrun").env("QUADLET_UNIT_DIRS", &dir));
    let told = said(&read);
    assert!(!told.to_lowercase().contains("unsupported") && !told.contains("rror"), "{told}");
    let run = told.lines().find(|line| line.starts_with("ExecStart=")).unwrap_or_else(|| panic!("{told}"));
    for word in ["redis:7 redis-server --save ${NOTHING}", "--user 999:999", "--health-cmd \"redis-cli ping\""] {
        assert!(run.contains(word), "{word} in {run}");
    }
}
