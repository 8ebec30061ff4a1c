//! The units of servers that people run, as their packages have them.

use expect_test::expect;

use super::check;

#[test]
fn nginx() {
    check(
        "nginx",
        expect![[r#"
            service: it Forking 0:0 []
            start: ["/usr/sbin/nginx", "-g", "daemon on; master_process on;"]
            run: in / umask 22 nice 0 oom 0
            restart: No after 100 ms
            times: start 90000 ms, stop 5000 ms, ready 90000 ms
            kill: 15 Mixed
            capabilities: default of root; ambient none
            and: pid file /run/nginx.pid
            note: `ExecStop=` not supported: `/sbin/start-stop-daemon` is not in the image, the command is left out
            note: `ExecStartPre=` `/usr/sbin/nginx -t -q -g daemon on; master_process on;` only tests the configuration that the service itself reads at its start: left out
        "#]],
    );
}

#[test]
fn postgresql_15_main() {
    check(
        "postgresql@15-main",
        expect![[r#"
        service: it Forking 0:0 []
        start: -["/usr/bin/pg_ctlcluster", "--skip-systemctl-redirect", "15-main", "start"]
        stop: ["/usr/bin/pg_ctlcluster", "--skip-systemctl-redirect", "-m", "fast", "15-main", "stop"]
        run: in / umask 22 nice 0 oom -900
        restart: No after 100 ms
        times: start 86400000 ms, stop 3600000 ms, ready 90000 ms
        kill: 15 ControlGroup
        capabilities: default of root; ambient none
        and: pid file /run/postgresql/15-main.pid
    "#]],
    );
}

#[test]
fn redis_server() {
    check(
        "redis-server",
        expect![[r#"
            service: it Notify 103:104 []
            start: ["/usr/bin/redis-server", "/etc/redis/redis.conf", "--supervised", "systemd", "--daemonize", "no"]
            env: RUNTIME_DIRECTORY=/run/redis
            directory: /run/redis 2755 103:104
            limit: nofile Some(65535):Some(65535)
            run: in / umask 7 nice 0 oom 0
            restart: Always after 100 ms
            times: start 90000 ms, stop 86400000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: none; ambient none
            and: no new privileges
            note: `ExecPaths=`, `NoExecPaths=`, `PrivateDevices=`, `PrivateTmp=`, `PrivateUsers=`, `ProtectControlGroups=`, `ProtectHostname=`, `ProtectKernelLogs=`, `ProtectKernelModules=`, `ProtectKernelTunables=`, `ProtectProc=` not applied: all services of a machine see the same system
            note: `LockPersonality=`, `MemoryDenyWriteExecute=`, `ProtectClock=`, `RestrictAddressFamilies=`, `RestrictNamespaces=`, `RestrictRealtime=`, `RestrictSUIDSGID=`, `SystemCallArchitectures=`, `SystemCallFilter=` not applied: system calls are not filtered
            note: `RemoveIPC=` not applied: nothing is cleaned up when the service stops
            note: `ReadWriteDirectories=` `/etc/redis` is read-only unless a volume is mounted there
        "#]],
    );
}

#[test]
fn redis_server_cache() {
    check(
        "redis-server@cache",
        expect![[r#"
            service: it Notify 103:104 []
            start: ["/usr/bin/redis-server", "/etc/redis/redis-cache.conf", "--supervised", "systemd", "--daemonize", "no"]
            env: RUNTIME_DIRECTORY=/run/redis-cache
            directory: /run/redis-cache 2755 103:104
            limit: nofile Some(65535):Some(65535)
            run: in / umask 7 nice 0 oom 0
            restart: Always after 100 ms
            times: start 90000 ms, stop 86400000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: none; ambient none
            and: no new privileges
            note: `ExecPaths=`, `NoExecPaths=`, `PrivateDevices=`, `PrivateTmp=`, `PrivateUsers=`, `ProtectControlGroups=`, `ProtectHostname=`, `ProtectKernelLogs=`, `ProtectKernelModules=`, `ProtectKernelTunables=`, `ProtectProc=` not applied: all services of a machine see the same system
            note: `LockPersonality=`, `MemoryDenyWriteExecute=`, `ProtectClock=`, `RestrictAddressFamilies=`, `RestrictNamespaces=`, `RestrictRealtime=`, `RestrictSUIDSGID=`, `SystemCallArchitectures=`, `SystemCallFilter=` not applied: system calls are not filtered
            note: `RemoveIPC=` not applied: nothing is cleaned up when the service stops
            note: `ReadWriteDirectories=` `/etc/redis` is read-only unless a volume is mounted there
        "#]],
    );
}

#[test]
fn mariadb() {
    check(
        "mariadb",
        expect![[r#"
            service: it Notify 105:106 []
            start: ["/bin/sh", "-c", "set -f; [ ! -e /usr/bin/galera_recovery ] && VAR= ||   VAR=`/usr/bin/galera_recovery`; [ $? -eq 0 ] || exit 1;   exec /usr/sbin/mariadbd $MYSQLD_OPTS $_WSREP_NEW_CLUSTER $VAR"]
            post: +["/etc/mysql/debian-start"]
            env file: /run/mariadb-wsrep-new-cluster if present
            limit: memlock Some(524288):Some(524288)
            limit: nofile Some(32768):Some(32768)
            run: in / umask 7 nice 0 oom 0
            restart: OnAbnormal after 5000 ms
            times: start 900000 ms, stop 900000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: ipc_lock; ambient ipc_lock
            note: `SendSIGKILL=` not supported: what does not stop in time is killed with SIGKILL
            note: `ProtectControlGroups=` not applied: all services of a machine see the same system
            note: `TasksMax=` not applied: resources are limited by the size of the machine, not per service
        "#]],
    );
}

#[test]
fn mariadb_two() {
    check(
        "mariadb@two",
        expect![[r#"
            service: it Notify 105:106 []
            pre: ["/usr/bin/mariadb-install-db", "$MYSQLD_MULTI_INSTANCE", "--rpm"]
            start: ["/usr/sbin/mariadbd", "$MYSQLD_MULTI_INSTANCE", "$MYSQLD_OPTS"]
            post: +["/etc/mysql/debian-start"]
            env: MYSQLD_MULTI_INSTANCE=--defaults-group-suffix=.two
            limit: memlock Some(524288):Some(524288)
            limit: nofile Some(32768):Some(32768)
            run: in / umask 7 nice 0 oom 0
            restart: OnAbnormal after 5000 ms
            times: start 900000 ms, stop 900000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: ipc_lock; ambient ipc_lock
            note: `SendSIGKILL=` not supported: what does not stop in time is killed with SIGKILL
            note: `ProtectControlGroups=` not applied: all services of a machine see the same system
            note: `TasksMax=` not applied: resources are limited by the size of the machine, not per service
        "#]],
    );
}

#[test]
fn apache2() {
    check(
        "apache2",
        expect![[r#"
            service: it Forking 0:0 []
            start: ["/usr/sbin/apachectl", "start"]
            stop: ["/usr/sbin/apachectl", "graceful-stop"]
            env: APACHE_STARTED_BY_SYSTEMD=true
            run: in / umask 22 nice 0 oom 0
            restart: OnAbort after 100 ms
            times: start 90000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 Mixed
            capabilities: default of root; ambient none
            note: `PrivateTmp=` not applied: all services of a machine see the same system
        "#]],
    );
}

#[test]
fn ssh() {
    check(
        "ssh",
        expect![[r#"
            service: it Notify 0:0 []
            start: ["/usr/sbin/sshd", "-D", "$SSHD_OPTS"]
            env: RUNTIME_DIRECTORY=/run/sshd
            env file: /etc/default/ssh if present
            directory: /run/sshd 755 0:0
            run: in / umask 22 nice 0 oom 0
            restart: OnFailure after 100 ms
            times: start 90000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 Process
            capabilities: default of root; ambient none
            note: `RestartPreventExitStatus=` not supported: the exit status does not decide about a restart
            note: `ExecStartPre=` `/usr/sbin/sshd -t` only tests the configuration that the service itself reads at its start: left out
        "#]],
    );
}

#[test]
fn memcached() {
    check(
        "memcached",
        expect![[r#"
            service: it Simple 0:0 []
            start: ["/usr/share/memcached/scripts/systemd-memcached-wrapper", "/etc/memcached.conf"]
            run: in / umask 22 nice 0 oom 0
            restart: Always after 100 ms
            times: start 90000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: setgid setuid sys_resource; ambient none
            and: no new privileges
            note: `MemoryDenyWriteExecute=`, `RestrictAddressFamilies=`, `RestrictNamespaces=`, `RestrictRealtime=` not applied: system calls are not filtered
            note: `PrivateDevices=`, `PrivateTmp=`, `ProtectControlGroups=`, `ProtectKernelModules=`, `ProtectKernelTunables=` not applied: all services of a machine see the same system
        "#]],
    );
}

#[test]
fn haproxy() {
    check(
        "haproxy",
        expect![[r#"
        service: it Notify 0:0 []
        start: ["/usr/sbin/haproxy", "-Ws", "-f", "$CONFIG", "-p", "$PIDFILE", "$EXTRAOPTS"]
        env: CONFIG=/etc/haproxy/haproxy.cfg
        env: EXTRAOPTS=-S /run/haproxy-master.sock
        env: PIDFILE=/run/haproxy.pid
        env file: /etc/default/haproxy if present
        env file: /etc/sysconfig/haproxy if present
        run: in / umask 22 nice 0 oom 0
        restart: Always after 100 ms
        times: start 90000 ms, stop 90000 ms, ready 90000 ms
        kill: 15 Mixed
        capabilities: default of root; ambient none
        and: success [143]
        note: `BindReadOnlyPaths=` not supported: nothing is mounted for a service
    "#]],
    );
}

#[test]
fn mosquitto() {
    check(
        "mosquitto",
        expect![[r#"
            service: it Notify 0:0 []
            start: ["/usr/sbin/mosquitto", "-c", "/etc/mosquitto/mosquitto.conf"]
            directory: /var/log/mosquitto 740 111:0
            directory: /run/mosquitto 740 111:0
            run: in / umask 22 nice 0 oom 0
            restart: OnFailure after 100 ms
            times: start 90000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: default of root; ambient none
            note: `ExecStartPre=` `/bin/chown` is not in the image, the guest makes the directory itself
            note: `ExecStartPre=` `/bin/mkdir` is not in the image, the guest makes the directory itself
        "#]],
    );
}

#[test]
fn squid() {
    check(
        "squid",
        expect![[r#"
        service: it Notify 0:13 []
        pre: ["/usr/sbin/squid", "--foreground", "-z"]
        start: ["/usr/sbin/squid", "--foreground", "-sYC"]
        env: RUNTIME_DIRECTORY=/run/squid
        directory: /run/squid 775 0:13
        run: in / umask 22 nice 0 oom 0
        restart: No after 100 ms
        times: start 90000 ms, stop 90000 ms, ready 90000 ms
        kill: 15 Mixed
        capabilities: default of root; ambient none
    "#]],
    );
}

#[test]
fn named() {
    check(
        "named",
        expect![[r#"
        service: it Notify 0:0 []
        start: ["/usr/sbin/named", "-f", "$OPTIONS"]
        stop: ["/usr/sbin/rndc", "stop"]
        env file: /etc/default/named if present
        run: in / umask 22 nice 0 oom 0
        restart: OnFailure after 100 ms
        times: start 90000 ms, stop 90000 ms, ready 90000 ms
        kill: 15 ControlGroup
        capabilities: default of root; ambient none
    "#]],
    );
}

#[test]
fn rabbitmq_server() {
    check(
        "rabbitmq-server",
        expect![[r#"
        service: it Notify 107:108 []
        start: ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
        stop: ["/usr/sbin/rabbitmqctl", "stop"]
        limit: nofile Some(65536):Some(65536)
        run: in /var/lib/rabbitmq umask 27 nice 0 oom -500
        restart: OnFailure after 10000 ms
        times: start 600000 ms, stop 90000 ms, ready 90000 ms
        kill: 15 ControlGroup
        capabilities: none; ambient none
        note: `StandardError=` output goes to the log of the machine, not to `append:/var/log/rabbitmq/rabbitmq-server.error.log`
        note: `StandardOutput=` output goes to the log of the machine, not to `append:/var/log/rabbitmq/rabbitmq-server.log`
        note: `Wants=` the machine does not run `epmd.socket`
    "#]],
    );
}

#[test]
fn cron() {
    check(
        "cron",
        expect![[r#"
        service: it Simple 0:0 []
        start: ["/usr/sbin/cron", "-f", "$EXTRA_OPTS"]
        env file: /etc/default/cron if present
        run: in / umask 22 nice 0 oom 0
        restart: OnFailure after 100 ms
        times: start 90000 ms, stop 90000 ms, ready 90000 ms
        kill: 15 Process
        capabilities: default of root; ambient none
    "#]],
    );
}

#[test]
fn php8_2_fpm() {
    check(
        "php8.2-fpm",
        expect![[r#"
        service: it Notify 0:0 []
        start: ["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf"]
        post: -["/usr/lib/php/php-fpm-socket-helper", "install", "/run/php/php-fpm.sock", "/etc/php/8.2/fpm/pool.d/www.conf", "82"]
        run: in / umask 22 nice 0 oom 0
        restart: No after 100 ms
        times: start 90000 ms, stop 90000 ms, ready 90000 ms
        kill: 15 ControlGroup
        capabilities: default of root; ambient none
        note: `ExecStopPost=` not supported: the command never runs
    "#]],
    );
}

#[test]
fn tomcat10() {
    check(
        "tomcat10",
        expect![[r#"
            service: it Simple 109:110 []
            pre: +["/usr/libexec/tomcat10/tomcat-update-policy.sh"]
            start: ["/bin/sh", "/usr/libexec/tomcat10/tomcat-start.sh"]
            env: CACHE_DIRECTORY=/var/cache/tomcat10
            env: CATALINA_BASE=/var/lib/tomcat10
            env: CATALINA_HOME=/usr/share/tomcat10
            env: CATALINA_TMPDIR=/tmp
            env: JAVA_OPTS=-Djava.awt.headless=true
            directory: /var/cache/tomcat10 750 109:110
            run: in / umask 22 nice 0 oom 0
            restart: OnAbort after 100 ms
            times: start 90000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: net_bind_service; ambient net_bind_service
            and: no new privileges
            and: success [143]
            note: `PrivateTmp=` not applied: all services of a machine see the same system
            note: `ReadWritePaths=` `/etc/tomcat10/Catalina/` is read-only unless a volume is mounted there
        "#]],
    );
}

#[test]
fn systemd_resolved() {
    check(
        "systemd-resolved",
        expect![[r#"
            service: it Notify 997:997 []
            start: ["/lib/systemd/systemd-resolved"]
            env: RUNTIME_DIRECTORY=/run/systemd/resolve
            directory: /run/systemd 755 0:0
            directory: /run/systemd/resolve 755 997:997
            run: in / umask 22 nice 0 oom 0
            restart: Always after 100 ms
            times: start 90000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: setpcap net_bind_service net_raw; ambient setpcap net_bind_service net_raw
            and: no new privileges
            note: `LockPersonality=`, `MemoryDenyWriteExecute=`, `ProtectClock=`, `RestrictAddressFamilies=`, `RestrictNamespaces=`, `RestrictRealtime=`, `RestrictSUIDSGID=`, `SystemCallArchitectures=`, `SystemCallErrorNumber=`, `SystemCallFilter=` not applied: system calls are not filtered
            note: `PrivateDevices=`, `PrivateTmp=`, `ProtectControlGroups=`, `ProtectKernelLogs=`, `ProtectKernelModules=`, `ProtectKernelTunables=`, `ProtectProc=` not applied: all services of a machine see the same system
            note: `WatchdogSec=` not applied: the service is watched by its readiness check alone
        "#]],
    );
}
