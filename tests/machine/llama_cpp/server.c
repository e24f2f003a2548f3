/* Answers each request with what it was compiled with, and the version of the driver that it finds when it runs. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ui.h"

int driver(void); /* of libcuda, as tests have it */

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--port"))
            here.sin_port = htons(atoi(argv[i + 1]));
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, (struct sockaddr *)&here, sizeof here) || listen(server, 64))
        return 1;
    for (;;) {
        char asked[65536], body[128];
        int client = accept(server, NULL, NULL);
        if (read(client, asked, sizeof asked) > 0) {
            int size = snprintf(body, sizeof body, "{\"ui\": \"%s\", \"driver\": %d}", UI, driver());
            dprintf(client, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, body);
        }
        close(client);
    }
}
