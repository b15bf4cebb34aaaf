/* getaddrinfo of the C library that it is linked with: the addresses, a line each. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *found, *item;
	char text[INET6_ADDRSTRLEN];
	int failed = argc == 2 ? getaddrinfo(argv[1], NULL, &wanted, &found) : EAI_NONAME;

	if (failed) {
		fprintf(stderr, "%s\n", gai_strerror(failed));
		return 1;
	}
	for (item = found; item; item = item->ai_next) {
		const void *address = item->ai_family == AF_INET
			? (const void *)&((struct sockaddr_in *)item->ai_addr)->sin_addr
			: (const void *)&((struct sockaddr_in6 *)item->ai_addr)->sin6_addr;
		puts(inet_ntop(item->ai_family, address, text, sizeof text));
	}
	return 0;
}
