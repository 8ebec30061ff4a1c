/* PID 1 of the lower bound: the least that can stand between Debian's kernel and nginx.
 *
 * Loads the modules listed in /modules/order, mounts the first disk (EROFS, not verified), gives eth0 the address that
 * QEMU's user network forwards to, and becomes nginx. No supervision, no log, no shutdown: it is a yardstick.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void must(int result, const char *what) {
    if (result < 0) {
        perror(what);
        _exit(1); /* PID 1 is gone: the kernel panics, QEMU ends (panic=-1, -no-reboot) */
    }
}

static void load_modules(void) {
    FILE *order = fopen("/modules/order", "r");
    char name[200], path[300];
    while (order && fscanf(order, "%199s", name) == 1) {
        snprintf(path, sizeof path, "/modules/%s", name);
        int fd = open(path, O_RDONLY);
        must(fd, path);
        must(syscall(SYS_finit_module, fd, "", 0), path);
        close(fd);
    }
}

static void interface_up(int socket_fd, const char *name, const char *address) {
    struct ifreq request = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (address) {
        in->sin_family = AF_INET;
        inet_pton(AF_INET, address, &in->sin_addr);
        must(ioctl(socket_fd, SIOCSIFADDR, &request), "address");
        inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
        must(ioctl(socket_fd, SIOCSIFNETMASK, &request), "netmask");
    }
    must(ioctl(socket_fd, SIOCGIFFLAGS, &request), "flags");
    request.ifr_flags |= IFF_UP;
    must(ioctl(socket_fd, SIOCSIFFLAGS, &request), "up");
}

int main(void) {
    must(mount("dev", "/dev", "devtmpfs", 0, ""), "devtmpfs");
    load_modules();
    must(mount("/dev/vda", "/sysroot", "erofs", MS_RDONLY, ""), "root");
    must(mount("/dev", "/sysroot/dev", 0, MS_MOVE, 0), "move /dev");
    must(chdir("/sysroot"), "chdir");
    must(mount(".", "/", 0, MS_MOVE, 0), "move root");
    must(chroot("."), "chroot");
    const char *writable[] = {"/run", "/tmp", "/var/lib/nginx", "/var/log/nginx"};
    for (int i = 0; i < 4; i++)
        must(mount("tmpfs", writable[i], "tmpfs", 0, ""), writable[i]);
    int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
    interface_up(socket_fd, "lo", 0);
    interface_up(socket_fd, "eth0", "10.0.2.15");
    close(socket_fd);
    setenv("PATH", "/usr/sbin:/usr/bin", 1);
    execl("/usr/sbin/nginx", "nginx", "-g", "daemon off;", (char *)0);
    must(-1, "nginx");
}
